BEGIN TRANSACTION;
CREATE TABLE trialflow_batches (
	experiment_id VARCHAR(16) NOT NULL, 
	batch INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	passed_at FLOAT, 
	closed_at FLOAT, 
	PRIMARY KEY (experiment_id, batch), 
	FOREIGN KEY(experiment_id) REFERENCES trialflow_experiments (id)
);
INSERT INTO "trialflow_batches" VALUES('aaaaaaaa',1,20,'manual__1',NULL,NULL);
INSERT INTO "trialflow_batches" VALUES('bbbbbbbb',1,20,'manual__1',NULL,NULL);
INSERT INTO "trialflow_batches" VALUES('cccccccc',1,20,'manual__1',NULL,NULL);
CREATE TABLE trialflow_changes (
	experiment_id VARCHAR(16) NOT NULL, 
	revision INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	who VARCHAR(250) NOT NULL, 
	what VARCHAR(40) NOT NULL, 
	value JSON, 
	PRIMARY KEY (experiment_id, revision), 
	FOREIGN KEY(experiment_id) REFERENCES trialflow_experiments (id)
);
INSERT INTO "trialflow_changes" VALUES('aaaaaaaa',1,1760000083.0,'ann','concurrency',6);
INSERT INTO "trialflow_changes" VALUES('aaaaaaaa',2,1760000084.0,'ann','searchspace','{"lr": {"_type": "loguniform", "_value": [0.001, 0.2]}, "net": {"_type": "choice", "_value": ["a", "b"]}}');
INSERT INTO "trialflow_changes" VALUES('aaaaaaaa',3,1760000085.0,'ann','add','{"lr": 0.05, "net": "a"}');
INSERT INTO "trialflow_changes" VALUES('aaaaaaaa',4,1760000086.0,'ann','import',1);
CREATE TABLE trialflow_experiments (
	id VARCHAR(16) NOT NULL, 
	spec JSON NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	status_reason TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	code_folder TEXT, 
	trial_concurrency INTEGER NOT NULL, 
	max_trial_number INTEGER NOT NULL, 
	max_duration_seconds FLOAT NOT NULL, 
	idle_seconds FLOAT NOT NULL, 
	owner VARCHAR(250) NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	PRIMARY KEY (id)
);
INSERT INTO "trialflow_experiments" VALUES('aaaaaaaa','{"name": "digits", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "local", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.2]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "TPE", "class_args": {"optimize_mode": "minimize"}, "include_intermediate_results": false, "own": null}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"command": "python3 trial.py"}, "assessor": {"name": "Medianstop", "class_args": {"optimize_mode": "minimize", "start_step": 3}, "include_intermediate_results": false, "own": null}, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}','RUNNING','','/FIXTURE/experiments/aaaaaaaa','/FIXTURE/experiments/aaaaaaaa/code',6,20,86400.0,0.0,'nni_experiment',1760000004.0,1760000012.0,NULL);
INSERT INTO "trialflow_experiments" VALUES('bbbbbbbb','{"name": "own", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "local", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "Mine", "class_args": {"last": 3}, "include_intermediate_results": false, "own": {"kind": "tuner", "code_directory": "/FIXTURE/own", "code_root": "/FIXTURE", "module": "my_tuner", "class_name": "Mine"}}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"command": "true"}, "assessor": {"name": "Mine", "class_args": {}, "include_intermediate_results": false, "own": {"kind": "assessor", "code_directory": "/FIXTURE/own", "code_root": "/FIXTURE", "module": "my_assessor", "class_name": "Mine"}}, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}','RUNNING','','/FIXTURE/experiments/bbbbbbbb','/FIXTURE/experiments/bbbbbbbb/code',4,20,86400.0,0.0,'nni_experiment',1760000087.0,1760000095.0,NULL);
INSERT INTO "trialflow_experiments" VALUES('cccccccc','{"name": "tf", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "kubeflow", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "TPE", "class_args": {"optimize_mode": "minimize"}, "include_intermediate_results": false, "own": null}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"worker": {"replicas": 1, "command": "python3 trial.py", "gpuNum": 0, "cpuNum": 1, "memoryMB": 128, "image": "python:3", "privateRegistryAuthPath": null, "podTemplate": null}, "ps": null, "master": null, "kubeflowConfig": {"operator": "tf-operator", "apiVersion": "v1", "namespace": null, "serviceAccountName": null, "storage": "nfs", "nfs": {"server": "nfs.example", "path": "/export"}, "pvc": null}, "cluster": {"version": "v1", "namespace": "default", "mount": "/FIXTURE/mnt"}}, "assessor": null, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}','RUNNING','','/FIXTURE/experiments/cccccccc','/FIXTURE/experiments/cccccccc/code',4,20,86400.0,0.0,'nni_experiment',1760000113.0,1760000121.0,NULL);
CREATE TABLE trialflow_metrics (
	experiment_id VARCHAR(16) NOT NULL, 
	trial_id VARCHAR(8) NOT NULL, 
	attempt INTEGER NOT NULL, 
	type VARCHAR(20) NOT NULL, 
	sequence INTEGER NOT NULL, 
	value JSON NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (experiment_id, trial_id, attempt, type, sequence), 
	FOREIGN KEY(experiment_id, trial_id) REFERENCES trialflow_trials (experiment_id, id)
);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','dVr5i',1,'PERIODICAL',0,0.5,1760000021.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','dVr5i',1,'PERIODICAL',1,0.25,1760000022.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','dVr5i',1,'FINAL',0,0.125,1760000024.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','idqS9',1,'PERIODICAL',0,0.5,1760000041.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','idqS9',1,'PERIODICAL',1,0.25,1760000042.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','idqS9',1,'FINAL',0,'{"default": 0.25, "loss": "NaN"}',1760000044.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','IspUt',1,'PERIODICAL',0,0.5,1760000061.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','IspUt',1,'PERIODICAL',1,0.25,1760000062.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','UoRl8',1,'PERIODICAL',0,0.5,1760000079.0);
INSERT INTO "trialflow_metrics" VALUES('aaaaaaaa','UoRl8',1,'PERIODICAL',1,0.25,1760000080.0);
INSERT INTO "trialflow_metrics" VALUES('bbbbbbbb','o3NDq',1,'PERIODICAL',0,0.5,1760000104.0);
INSERT INTO "trialflow_metrics" VALUES('bbbbbbbb','o3NDq',1,'PERIODICAL',1,0.25,1760000105.0);
INSERT INTO "trialflow_metrics" VALUES('bbbbbbbb','o3NDq',1,'FINAL',0,0.125,1760000107.0);
INSERT INTO "trialflow_metrics" VALUES('cccccccc','ZXeiK',1,'PERIODICAL',0,0.5,1760000130.0);
INSERT INTO "trialflow_metrics" VALUES('cccccccc','ZXeiK',1,'PERIODICAL',1,0.25,1760000131.0);
INSERT INTO "trialflow_metrics" VALUES('cccccccc','ZXeiK',1,'FINAL',0,0.125,1760000133.0);
INSERT INTO "trialflow_metrics" VALUES('cccccccc','V4oe0',1,'PERIODICAL',0,0.5,1760000150.0);
INSERT INTO "trialflow_metrics" VALUES('cccccccc','V4oe0',1,'PERIODICAL',1,0.25,1760000151.0);
CREATE TABLE trialflow_points (
	experiment_id VARCHAR(16) NOT NULL, 
	position INTEGER NOT NULL, 
	parameters JSON NOT NULL, 
	value FLOAT, 
	trial_id VARCHAR(8), 
	PRIMARY KEY (experiment_id, position), 
	FOREIGN KEY(experiment_id) REFERENCES trialflow_experiments (id)
);
INSERT INTO "trialflow_points" VALUES('aaaaaaaa',1,'{"lr": 0.05, "net": "a"}',NULL,NULL);
INSERT INTO "trialflow_points" VALUES('aaaaaaaa',2,'{"lr": 0.02, "net": "b"}',0.75,NULL);
CREATE TABLE trialflow_schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "trialflow_schema" VALUES(5);
CREATE TABLE trialflow_trials (
	experiment_id VARCHAR(16) NOT NULL, 
	id VARCHAR(8) NOT NULL, 
	number INTEGER NOT NULL, 
	batch INTEGER NOT NULL, 
	slot INTEGER NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	attempt INTEGER NOT NULL, 
	claimed_at FLOAT NOT NULL, 
	parameters JSON, 
	note JSON, 
	sampler_number INTEGER, 
	job JSON, 
	followed_at FLOAT, 
	started_at FLOAT, 
	ended_at FLOAT, 
	reported_at FLOAT, 
	exit_code INTEGER, 
	value FLOAT, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (experiment_id, id), 
	UNIQUE (experiment_id, batch, slot), 
	UNIQUE (experiment_id, number), 
	FOREIGN KEY(experiment_id) REFERENCES trialflow_experiments (id)
);
INSERT INTO "trialflow_trials" VALUES('aaaaaaaa','dVr5i',0,1,0,'manual__1','SUCCEEDED',1,1760000012.0,'{"lr": 0.01, "net": "a"}','{}',0,'{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/dVr5i/1", "host": "elsewhere"}',1760000017.0,1760000019.0,1760000026.0,1760000028.0,0,0.125,'');
INSERT INTO "trialflow_trials" VALUES('aaaaaaaa','idqS9',1,1,1,'manual__1','SUCCEEDED',1,1760000032.0,'{"lr": 0.02, "net": "b"}','{"round": 1}',1,'{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/idqS9/1", "host": "elsewhere"}',1760000037.0,1760000039.0,1760000046.0,1760000048.0,0,0.375,'');
INSERT INTO "trialflow_trials" VALUES('aaaaaaaa','IspUt',2,1,2,'manual__1','FAILED',1,1760000052.0,'{"lr": 0.03, "net": "a"}','{}',2,'{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/IspUt/1", "host": "elsewhere"}',1760000057.0,1760000059.0,1760000064.0,1760000066.0,3,NULL,'it ended with code 3');
INSERT INTO "trialflow_trials" VALUES('aaaaaaaa','UoRl8',3,1,3,'manual__1','RUNNING',1,1760000070.0,'{"lr": 0.04, "net": "b"}','{}',3,'{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/UoRl8/1", "host": "elsewhere"}',1760000075.0,1760000077.0,NULL,NULL,NULL,NULL,'');
INSERT INTO "trialflow_trials" VALUES('bbbbbbbb','o3NDq',0,1,0,'manual__1','SUCCEEDED',1,1760000095.0,'{"lr": 0.01, "net": "a"}','{}',0,'{"folder": "/FIXTURE/experiments/bbbbbbbb/trials/o3NDq/1", "host": "elsewhere"}',1760000100.0,1760000102.0,1760000109.0,1760000111.0,0,0.125,'');
INSERT INTO "trialflow_trials" VALUES('cccccccc','ZXeiK',0,1,0,'manual__1','SUCCEEDED',1,1760000121.0,'{"lr": 0.01, "net": "a"}','{}',0,'{"collection": "/apis/kubeflow.org/v1/namespaces/default/tfjobs", "name": "nni-exp-cccccccc-trial-ZXeiK-1", "namespace": "default", "folder": "/FIXTURE/mnt/experiments/cccccccc/trials/ZXeiK/1", "chief": "worker-0", "container": "tensorflow", "memory_mb": 128}',1760000126.0,1760000128.0,1760000135.0,1760000137.0,0,0.125,'');
INSERT INTO "trialflow_trials" VALUES('cccccccc','V4oe0',1,1,1,'manual__1','RUNNING',1,1760000141.0,'{"lr": 0.02, "net": "b"}','{"round": 1}',1,'{"collection": "/apis/kubeflow.org/v1/namespaces/default/tfjobs", "name": "nni-exp-cccccccc-trial-V4oe0-1", "namespace": "default", "folder": "/FIXTURE/mnt/experiments/cccccccc/trials/V4oe0/1", "chief": "worker-0", "container": "tensorflow", "memory_mb": 128}',1760000146.0,1760000148.0,NULL,NULL,NULL,NULL,'');
COMMIT;
