"""The algorithms that are built in, by their names in an experiment file: one row for each."""

# NNI's name → the class
TUNERS = {
    "TPE": "trialflow.tuners.tpe:TPE",
    "Random": "trialflow.tuners.random:Random",
    "Anneal": "trialflow.tuners.anneal:Anneal",
    "Evolution": "trialflow.tuners.evolution:Evolution",
    "GridSearch": "trialflow.tuners.grid:GridSearch",
    "GPTuner": "trialflow.tuners.gp:GPTuner",
    "MetisTuner": "trialflow.tuners.metis:Metis",
    "SMAC": "trialflow.tuners.smac:SMAC",
    "BatchTuner": "trialflow.tuners.batch:Batch",
    "QMC": "trialflow.tuners.qmc:QMC",
    "CmaEs": "trialflow.tuners.cmaes:CmaEs",
    "NSGAII": "trialflow.tuners.nsga2:NSGAII",
}
# The same, of NNI's advisors, which are tuner and assessor in one
ADVISORS = {
    "Hyperband": "trialflow.tuners.hyperband:Hyperband",
    "BOHB": "trialflow.tuners.bohb:BOHB",
}
# The same, of assessors
ASSESSORS = {
    "Medianstop": "trialflow.assessors.medianstop:Medianstop",
    "Curvefitting": "trialflow.assessors.curvefitting:Curvefitting",
    "SuccessiveHalving": "trialflow.assessors.halving:SuccessiveHalving",
}
# NNI's name of a tuner → why it is refused
REFUSED = {
    "NetworkMorphism": "is an architecture search, and Trialflow tunes parameters only",
    "PBTTuner": "is a tuner of NNI's that is not built",
    "DNGOTuner": "is a tuner of NNI's that is not built",
    "PPOTuner": "is an architecture search, and Trialflow tunes parameters only",
}
