--
-- PostgreSQL database dump
--

-- Dumped from database version 16.2
-- Dumped by pg_dump version 16.2

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: trialflow_batches; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_batches (
    experiment_id character varying(16) NOT NULL,
    batch integer NOT NULL,
    size integer NOT NULL,
    run_id character varying(250) NOT NULL,
    passed_at double precision,
    closed_at double precision
);


--
-- Name: trialflow_changes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_changes (
    experiment_id character varying(16) NOT NULL,
    revision integer NOT NULL,
    at double precision NOT NULL,
    who character varying(250) NOT NULL,
    what character varying(40) NOT NULL,
    value json
);


--
-- Name: trialflow_experiments; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_experiments (
    id character varying(16) NOT NULL,
    spec json NOT NULL,
    status character varying(32) NOT NULL,
    status_reason text NOT NULL,
    folder text NOT NULL,
    code_folder text,
    trial_concurrency integer NOT NULL,
    max_trial_number integer NOT NULL,
    max_duration_seconds double precision NOT NULL,
    idle_seconds double precision NOT NULL,
    owner character varying(250) NOT NULL,
    created_at double precision NOT NULL,
    started_at double precision,
    ended_at double precision
);


--
-- Name: trialflow_metrics; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_metrics (
    experiment_id character varying(16) NOT NULL,
    trial_id character varying(8) NOT NULL,
    attempt integer NOT NULL,
    type character varying(20) NOT NULL,
    sequence integer NOT NULL,
    value json NOT NULL,
    at double precision NOT NULL
);


--
-- Name: trialflow_points; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_points (
    experiment_id character varying(16) NOT NULL,
    "position" integer NOT NULL,
    parameters json NOT NULL,
    value double precision,
    trial_id character varying(8)
);


--
-- Name: trialflow_schema; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_schema (
    version integer NOT NULL
);


--
-- Name: trialflow_trials; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.trialflow_trials (
    experiment_id character varying(16) NOT NULL,
    id character varying(8) NOT NULL,
    number integer NOT NULL,
    batch integer NOT NULL,
    slot integer NOT NULL,
    run_id character varying(250) NOT NULL,
    status character varying(32) NOT NULL,
    attempt integer NOT NULL,
    claimed_at double precision NOT NULL,
    parameters json,
    note json,
    sampler_number integer,
    job json,
    followed_at double precision,
    started_at double precision,
    ended_at double precision,
    reported_at double precision,
    exit_code integer,
    value double precision,
    reason text NOT NULL
);


--
-- Data for Name: trialflow_batches; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_batches VALUES ('aaaaaaaa', 1, 20, 'manual__1', NULL, NULL);
INSERT INTO public.trialflow_batches VALUES ('bbbbbbbb', 1, 20, 'manual__1', NULL, NULL);
INSERT INTO public.trialflow_batches VALUES ('cccccccc', 1, 20, 'manual__1', NULL, NULL);


--
-- Data for Name: trialflow_changes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_changes VALUES ('aaaaaaaa', 1, 1760000083, 'ann', 'concurrency', '6');
INSERT INTO public.trialflow_changes VALUES ('aaaaaaaa', 2, 1760000084, 'ann', 'searchspace', '{"lr": {"_type": "loguniform", "_value": [0.001, 0.2]}, "net": {"_type": "choice", "_value": ["a", "b"]}}');
INSERT INTO public.trialflow_changes VALUES ('aaaaaaaa', 3, 1760000085, 'ann', 'add', '{"lr": 0.05, "net": "a"}');
INSERT INTO public.trialflow_changes VALUES ('aaaaaaaa', 4, 1760000086, 'ann', 'import', '1');


--
-- Data for Name: trialflow_experiments; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_experiments VALUES ('bbbbbbbb', '{"name": "own", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "local", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "Mine", "class_args": {"last": 3}, "include_intermediate_results": false, "own": {"kind": "tuner", "code_directory": "/FIXTURE/own", "code_root": "/FIXTURE", "module": "my_tuner", "class_name": "Mine"}}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"command": "true"}, "assessor": {"name": "Mine", "class_args": {}, "include_intermediate_results": false, "own": {"kind": "assessor", "code_directory": "/FIXTURE/own", "code_root": "/FIXTURE", "module": "my_assessor", "class_name": "Mine"}}, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}', 'RUNNING', '', '/FIXTURE/experiments/bbbbbbbb', '/FIXTURE/experiments/bbbbbbbb/code', 4, 20, 86400, 0, 'nni_experiment', 1760000087, 1760000095, NULL);
INSERT INTO public.trialflow_experiments VALUES ('aaaaaaaa', '{"name": "digits", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "local", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.2]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "TPE", "class_args": {"optimize_mode": "minimize"}, "include_intermediate_results": false, "own": null}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"command": "python3 trial.py"}, "assessor": {"name": "Medianstop", "class_args": {"optimize_mode": "minimize", "start_step": 3}, "include_intermediate_results": false, "own": null}, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}', 'RUNNING', '', '/FIXTURE/experiments/aaaaaaaa', '/FIXTURE/experiments/aaaaaaaa/code', 6, 20, 86400, 0, 'nni_experiment', 1760000004, 1760000012, NULL);
INSERT INTO public.trialflow_experiments VALUES ('cccccccc', '{"name": "tf", "author": "ann", "trial_concurrency": 4, "max_trial_number": 20, "max_duration_seconds": 86400.0, "platform": "kubeflow", "search_space": {"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}, "net": {"_type": "choice", "_value": ["a", "b"]}}, "tuner": {"name": "TPE", "class_args": {"optimize_mode": "minimize"}, "include_intermediate_results": false, "own": null}, "code_directory": "/FIXTURE/code", "code_root": "/FIXTURE", "training": {"worker": {"replicas": 1, "command": "python3 trial.py", "gpuNum": 0, "cpuNum": 1, "memoryMB": 128, "image": "python:3", "privateRegistryAuthPath": null, "podTemplate": null}, "ps": null, "master": null, "kubeflowConfig": {"operator": "tf-operator", "apiVersion": "v1", "namespace": null, "serviceAccountName": null, "storage": "nfs", "nfs": {"server": "nfs.example", "path": "/export"}, "pvc": null}, "cluster": {"version": "v1", "namespace": "default", "mount": "/FIXTURE/mnt"}}, "assessor": null, "max_trial_duration_seconds": null, "max_failed_trial_number": null, "goal": null, "use_annotation": false, "description": "", "warnings": ["logDir has no effect"]}', 'RUNNING', '', '/FIXTURE/experiments/cccccccc', '/FIXTURE/experiments/cccccccc/code', 4, 20, 86400, 0, 'nni_experiment', 1760000113, 1760000121, NULL);


--
-- Data for Name: trialflow_metrics; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'zhvvx', 1, 'PERIODICAL', 0, '0.5', 1760000021);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'zhvvx', 1, 'PERIODICAL', 1, '0.25', 1760000022);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'zhvvx', 1, 'FINAL', 0, '0.125', 1760000024);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'j8Ooz', 1, 'PERIODICAL', 0, '0.5', 1760000041);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'j8Ooz', 1, 'PERIODICAL', 1, '0.25', 1760000042);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'j8Ooz', 1, 'FINAL', 0, '{"default": 0.25, "loss": "NaN"}', 1760000044);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'pnTZu', 1, 'PERIODICAL', 0, '0.5', 1760000061);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'pnTZu', 1, 'PERIODICAL', 1, '0.25', 1760000062);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'vYVYg', 1, 'PERIODICAL', 0, '0.5', 1760000079);
INSERT INTO public.trialflow_metrics VALUES ('aaaaaaaa', 'vYVYg', 1, 'PERIODICAL', 1, '0.25', 1760000080);
INSERT INTO public.trialflow_metrics VALUES ('bbbbbbbb', 'Wz9N8', 1, 'PERIODICAL', 0, '0.5', 1760000104);
INSERT INTO public.trialflow_metrics VALUES ('bbbbbbbb', 'Wz9N8', 1, 'PERIODICAL', 1, '0.25', 1760000105);
INSERT INTO public.trialflow_metrics VALUES ('bbbbbbbb', 'Wz9N8', 1, 'FINAL', 0, '0.125', 1760000107);
INSERT INTO public.trialflow_metrics VALUES ('cccccccc', 'VPqb9', 1, 'PERIODICAL', 0, '0.5', 1760000130);
INSERT INTO public.trialflow_metrics VALUES ('cccccccc', 'VPqb9', 1, 'PERIODICAL', 1, '0.25', 1760000131);
INSERT INTO public.trialflow_metrics VALUES ('cccccccc', 'VPqb9', 1, 'FINAL', 0, '0.125', 1760000133);
INSERT INTO public.trialflow_metrics VALUES ('cccccccc', 'ta4hE', 1, 'PERIODICAL', 0, '0.5', 1760000150);
INSERT INTO public.trialflow_metrics VALUES ('cccccccc', 'ta4hE', 1, 'PERIODICAL', 1, '0.25', 1760000151);


--
-- Data for Name: trialflow_points; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_points VALUES ('aaaaaaaa', 1, '{"lr": 0.05, "net": "a"}', NULL, NULL);
INSERT INTO public.trialflow_points VALUES ('aaaaaaaa', 2, '{"lr": 0.02, "net": "b"}', 0.75, NULL);


--
-- Data for Name: trialflow_schema; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_schema VALUES (5);


--
-- Data for Name: trialflow_trials; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.trialflow_trials VALUES ('aaaaaaaa', 'zhvvx', 0, 1, 0, 'manual__1', 'SUCCEEDED', 1, 1760000012, '{"lr": 0.01, "net": "a"}', '{}', 0, '{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/zhvvx/1", "host": "elsewhere"}', 1760000017, 1760000019, 1760000026, 1760000028, 0, 0.125, '');
INSERT INTO public.trialflow_trials VALUES ('cccccccc', 'VPqb9', 0, 1, 0, 'manual__1', 'SUCCEEDED', 1, 1760000121, '{"lr": 0.01, "net": "a"}', '{}', 0, '{"collection": "/apis/kubeflow.org/v1/namespaces/default/tfjobs", "name": "nni-exp-cccccccc-trial-VPqb9-1", "namespace": "default", "folder": "/FIXTURE/mnt/experiments/cccccccc/trials/VPqb9/1", "chief": "worker-0", "container": "tensorflow", "memory_mb": 128}', 1760000126, 1760000128, 1760000135, 1760000137, 0, 0.125, '');
INSERT INTO public.trialflow_trials VALUES ('aaaaaaaa', 'j8Ooz', 1, 1, 1, 'manual__1', 'SUCCEEDED', 1, 1760000032, '{"lr": 0.02, "net": "b"}', '{"round": 1}', 1, '{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/j8Ooz/1", "host": "elsewhere"}', 1760000037, 1760000039, 1760000046, 1760000048, 0, 0.375, '');
INSERT INTO public.trialflow_trials VALUES ('cccccccc', 'ta4hE', 1, 1, 1, 'manual__1', 'RUNNING', 1, 1760000141, '{"lr": 0.02, "net": "b"}', '{"round": 1}', 1, '{"collection": "/apis/kubeflow.org/v1/namespaces/default/tfjobs", "name": "nni-exp-cccccccc-trial-ta4hE-1", "namespace": "default", "folder": "/FIXTURE/mnt/experiments/cccccccc/trials/ta4hE/1", "chief": "worker-0", "container": "tensorflow", "memory_mb": 128}', 1760000146, 1760000148, NULL, NULL, NULL, NULL, '');
INSERT INTO public.trialflow_trials VALUES ('aaaaaaaa', 'pnTZu', 2, 1, 2, 'manual__1', 'FAILED', 1, 1760000052, '{"lr": 0.03, "net": "a"}', '{}', 2, '{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/pnTZu/1", "host": "elsewhere"}', 1760000057, 1760000059, 1760000064, 1760000066, 3, NULL, 'it ended with code 3');
INSERT INTO public.trialflow_trials VALUES ('aaaaaaaa', 'vYVYg', 3, 1, 3, 'manual__1', 'RUNNING', 1, 1760000070, '{"lr": 0.04, "net": "b"}', '{}', 3, '{"folder": "/FIXTURE/experiments/aaaaaaaa/trials/vYVYg/1", "host": "elsewhere"}', 1760000075, 1760000077, NULL, NULL, NULL, NULL, '');
INSERT INTO public.trialflow_trials VALUES ('bbbbbbbb', 'Wz9N8', 0, 1, 0, 'manual__1', 'SUCCEEDED', 1, 1760000095, '{"lr": 0.01, "net": "a"}', '{}', 0, '{"folder": "/FIXTURE/experiments/bbbbbbbb/trials/Wz9N8/1", "host": "elsewhere"}', 1760000100, 1760000102, 1760000109, 1760000111, 0, 0.125, '');


--
-- Name: trialflow_batches trialflow_batches_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_batches
    ADD CONSTRAINT trialflow_batches_pkey PRIMARY KEY (experiment_id, batch);


--
-- Name: trialflow_changes trialflow_changes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_changes
    ADD CONSTRAINT trialflow_changes_pkey PRIMARY KEY (experiment_id, revision);


--
-- Name: trialflow_experiments trialflow_experiments_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_experiments
    ADD CONSTRAINT trialflow_experiments_pkey PRIMARY KEY (id);


--
-- Name: trialflow_metrics trialflow_metrics_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_metrics
    ADD CONSTRAINT trialflow_metrics_pkey PRIMARY KEY (experiment_id, trial_id, attempt, type, sequence);


--
-- Name: trialflow_points trialflow_points_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_points
    ADD CONSTRAINT trialflow_points_pkey PRIMARY KEY (experiment_id, "position");


--
-- Name: trialflow_schema trialflow_schema_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_schema
    ADD CONSTRAINT trialflow_schema_pkey PRIMARY KEY (version);


--
-- Name: trialflow_trials trialflow_trials_experiment_id_batch_slot_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_trials
    ADD CONSTRAINT trialflow_trials_experiment_id_batch_slot_key UNIQUE (experiment_id, batch, slot);


--
-- Name: trialflow_trials trialflow_trials_experiment_id_number_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_trials
    ADD CONSTRAINT trialflow_trials_experiment_id_number_key UNIQUE (experiment_id, number);


--
-- Name: trialflow_trials trialflow_trials_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_trials
    ADD CONSTRAINT trialflow_trials_pkey PRIMARY KEY (experiment_id, id);


--
-- Name: trialflow_batches trialflow_batches_experiment_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_batches
    ADD CONSTRAINT trialflow_batches_experiment_id_fkey FOREIGN KEY (experiment_id) REFERENCES public.trialflow_experiments(id);


--
-- Name: trialflow_changes trialflow_changes_experiment_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_changes
    ADD CONSTRAINT trialflow_changes_experiment_id_fkey FOREIGN KEY (experiment_id) REFERENCES public.trialflow_experiments(id);


--
-- Name: trialflow_metrics trialflow_metrics_experiment_id_trial_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_metrics
    ADD CONSTRAINT trialflow_metrics_experiment_id_trial_id_fkey FOREIGN KEY (experiment_id, trial_id) REFERENCES public.trialflow_trials(experiment_id, id);


--
-- Name: trialflow_points trialflow_points_experiment_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_points
    ADD CONSTRAINT trialflow_points_experiment_id_fkey FOREIGN KEY (experiment_id) REFERENCES public.trialflow_experiments(id);


--
-- Name: trialflow_trials trialflow_trials_experiment_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.trialflow_trials
    ADD CONSTRAINT trialflow_trials_experiment_id_fkey FOREIGN KEY (experiment_id) REFERENCES public.trialflow_experiments(id);


--
-- PostgreSQL database dump complete
--

