"""What `nni` has besides the modules for trials, where Trialflow is installed: the module `nni.experiment`.

The file `nni.py` beside this package puts this folder on the path of the package `nni`. So what lies in here goes by
two names, and imports its neighbours relatively.
"""
