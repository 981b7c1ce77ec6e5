//! Clusters do what Slurm does elsewhere, and leave nothing behind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use fs_err as fs;
use slurm_sandbox::{Cluster, Job, Plan, wait_until};

/// Far above what anything here takes, but for a machine that is busy.
const SOON: Duration = Duration::from_mins(1);
const NO_OUTPUT: &str = "--output=/dev/null";

fn start() -> Cluster {
    Cluster::start(&Plan::default()).unwrap()
}

fn job(cluster: &Cluster, id: u64) -> Result<Job> {
    let job = cluster.remembered()?.into_iter().find(|job| job.id == id);
    job.with_context(|| format!("nobody remembers job {id}"))
}

fn wait_for(cluster: &Cluster, id: u64, state: &str) -> Job {
    wait_until(&format!("that job {id} is {state}"), SOON, || Ok(job(cluster, id)?.state == state)).unwrap();
    job(cluster, id).unwrap()
}

/// A script that leaves a line for each time it began, and then stays.
fn stays(file: &Path) -> String {
    format!("--wrap=echo \"$$ ${{SLURM_RESTART_COUNT:-first}}\" >>{}; exec sleep 600", file.display())
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The command of a process, unless it has ended.
fn command(pid: &str) -> Option<String> {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    (!command.is_empty()).then(|| String::from_utf8_lossy(&command).replace('\0', " "))
}

/// The process that wrote the first line.
fn first(file: &Path) -> String {
    lines(file)[0].split_once(' ').unwrap().0.to_owned()
}

/// Processes with a folder's name in what `/proc` says of them.
fn mentioning(folder: &Path) -> Vec<PathBuf> {
    let name = folder.as_os_str().as_encoded_bytes();
    let has = |text: &[u8]| text.windows(name.len()).any(|part| part == name);
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|process| {
            let files = ["cmdline", "environ"].map(|file| std::fs::read(process.join(file)).unwrap_or_default());
            let cwd = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            files.iter().any(|text| has(text)) || has(cwd.as_os_str().as_encoded_bytes())
        })
        .collect()
}

#[test]
fn clusters_side_by_side_know_nothing_of_each_other() {
    let clusters = thread::scope(|scope| {
        let starting = [scope.spawn(start), scope.spawn(start)];
        starting.map(|thread| thread.join().unwrap())
    });
    for (cluster, name) in clusters.iter().zip(["here", "there"]) {
        cluster.submit(&["--job-name", name, NO_OUTPUT, "--wrap=exec sleep 600"]).unwrap();
    }
    for (cluster, name) in clusters.iter().zip(["here", "there"]) {
        wait_for(cluster, 1, "RUNNING");
        let queue = cluster.queue().unwrap();
        assert_eq!(queue.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), [name]);
    }
    let [here, there] = clusters;
    drop(here);
    assert_eq!(job(&there, 1).unwrap().state, "RUNNING");
    assert_eq!(there.node_state(1).unwrap(), "mixed");
}

#[test]
fn each_element_of_an_array_gets_a_gpu() {
    let cluster = start();
    let scratch = tempfile::tempdir().unwrap();
    let script = format!(
        "--wrap=echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES >{}/$SLURM_ARRAY_TASK_ID; exec sleep 600",
        scratch.path().display()
    );
    let array = cluster.submit(&["--array=0-4", "--gres=gpu:1", "--job-name=a|b c", NO_OUTPUT, &script]).unwrap();
    let running = |cluster: &Cluster| -> Result<Vec<Job>> {
        Ok(cluster.queue()?.into_iter().filter(|job| job.state == "RUNNING").collect())
    };
    let files = || -> Result<_> { Ok(fs::read_dir(scratch.path())?.count()) };
    wait_until("that four of them run", SOON, || Ok(running(&cluster)?.len() == 4 && files()? == 4)).unwrap();

    let queue = cluster.queue().unwrap();
    assert!(queue.iter().all(|job| job.array == array && job.name == "a|b c"), "{queue:?}");
    let waiting: Vec<_> = queue.iter().filter(|job| job.state == "PENDING").collect();
    assert_eq!(waiting.iter().map(|job| (job.id, job.task, &job.node)).collect::<Vec<_>>(), [(array, Some(4), &None)]);
    let devices: BTreeSet<_> = (0..4).flat_map(|task| lines(&scratch.path().join(task.to_string()))).collect();
    assert_eq!(devices.into_iter().collect::<Vec<_>>(), ["n1 0", "n1 1", "n2 0", "n2 1"]);

    let first = queue.iter().find(|job| job.task == Some(0)).unwrap().id;
    cluster.run("scancel", &[&format!("{array}_0")]).unwrap();
    wait_until("that the fifth runs", SOON, || Ok(files()? == 5)).unwrap();
    assert_eq!(wait_for(&cluster, first, "CANCELLED").task, Some(0));
}

#[test]
fn a_job_runs_on_while_the_controller_is_dead() {
    let mut cluster = start();
    let scratch = tempfile::tempdir().unwrap();
    let began = scratch.path().join("began");
    let id = cluster.submit(&[NO_OUTPUT, &stays(&began)]).unwrap();
    wait_for(&cluster, id, "RUNNING");
    wait_until("that the job begins", SOON, || Ok(!lines(&began).is_empty())).unwrap();
    // The controller writes down what it knows a little later than it says so.
    let saved = |cluster: &Cluster| -> Result<_> {
        Ok(fs::metadata(cluster.folder().join("controller/state/job_state"))?.modified()?)
    };
    let began_at = fs::metadata(&began).unwrap().modified().unwrap() + Duration::from_secs(1);
    cluster.run("scontrol", &["update", "jobid=1", "comment=so that there is something to save"]).unwrap();
    wait_until("that the controller saves", SOON, || Ok(saved(&cluster).is_ok_and(|at| at > began_at))).unwrap();

    cluster.kill_controller().unwrap();
    assert!(cluster.kill_controller().is_err());
    let error = cluster.queue().unwrap_err().to_string();
    assert!(error.contains("Unable to contact slurm controller"), "{error}");
    cluster.start_controller().unwrap();
    assert_eq!(job(&cluster, id).unwrap().state, "RUNNING");
    let next = cluster.submit(&[NO_OUTPUT, "--wrap=true"]).unwrap();
    assert!(next > id);
    wait_for(&cluster, next, "COMPLETED");
    assert_eq!(job(&cluster, id).unwrap().state, "RUNNING");
    assert_eq!(lines(&began).len(), 1);
    assert_eq!(command(&first(&began)).as_deref(), Some("sleep 600 "));
}

#[test]
fn a_dead_node_is_noticed_and_its_jobs_run_again_or_fail() {
    let mut cluster = start();
    let scratch = tempfile::tempdir().unwrap();
    let began = ["again", "once", "elsewhere"].map(|name| scratch.path().join(name));
    let submit =
        |node: &str, policy: &str, file: &Path| cluster.submit(&["-w", node, policy, NO_OUTPUT, &stays(file)]).unwrap();
    let again = submit("n2", "--requeue", &began[0]);
    let once = submit("n2", "--no-requeue", &began[1]);
    let elsewhere = submit("n1", "--requeue", &began[2]);
    wait_until("that all begin", SOON, || Ok(began.iter().all(|file| lines(file).len() == 1))).unwrap();

    cluster.kill_node(2).unwrap();
    assert_eq!(began.each_ref().map(|file| command(&first(file)).is_some()), [false, false, true]);
    assert_eq!(job(&cluster, again).unwrap().state, "RUNNING", "the controller can't know yet");
    wait_until("that the node is down", SOON, || Ok(cluster.node_state(2)?.starts_with("down"))).unwrap();
    let failed = wait_for(&cluster, once, "NODE_FAIL");
    assert_eq!(failed.reason, "NodeDown");
    wait_for(&cluster, again, "PENDING");

    cluster.start_node(2).unwrap();
    wait_for(&cluster, again, "RUNNING");
    wait_until("that it begins again", SOON, || Ok(lines(&began[0]).len() == 2)).unwrap();
    assert!(lines(&began[0])[0].ends_with(" first") && lines(&began[0])[1].ends_with(" 1"));
    assert_eq!(lines(&began[1]).len(), 1);
    assert_eq!(job(&cluster, elsewhere).unwrap().state, "RUNNING");
    assert_eq!(lines(&began[2]).len(), 1);
}

#[test]
fn a_requeued_job_keeps_its_id() {
    let cluster = start();
    let scratch = tempfile::tempdir().unwrap();
    let began = scratch.path().join("began");
    let id = cluster.submit(&[NO_OUTPUT, &stays(&began)]).unwrap();
    wait_until("that the job begins", SOON, || Ok(lines(&began).len() == 1)).unwrap();
    cluster.run("scontrol", &["requeue", &id.to_string()]).unwrap();
    wait_for(&cluster, id, "PENDING");
    wait_until("that it begins again", SOON, || Ok(lines(&began).len() == 2)).unwrap();
    wait_for(&cluster, id, "RUNNING");
    assert!(lines(&began)[1].ends_with(" 1"));
}

#[test]
fn a_job_of_the_high_partition_ends_one_of_the_low() {
    let cluster = start();
    let one =
        |partition| cluster.submit(&["-p", partition, "--gres=gpu:2", NO_OUTPUT, "--wrap=exec sleep 600"]).unwrap();
    let (low, kept) = (one("low"), one("gpu"));
    wait_for(&cluster, low, "RUNNING");
    wait_for(&cluster, kept, "RUNNING");
    let high = one("high");
    wait_for(&cluster, low, "PREEMPTED");
    wait_for(&cluster, high, "RUNNING");
    assert_eq!(job(&cluster, kept).unwrap().state, "RUNNING");
}

#[test]
fn a_job_whose_end_has_come_is_timed_out() {
    let cluster = start();
    let id = cluster.submit(&["-p", "short", NO_OUTPUT, "--wrap=exec sleep 600"]).unwrap();
    wait_for(&cluster, id, "RUNNING");
    cluster.run("scontrol", &["update", &format!("jobid={id}"), "EndTime=now+1"]).unwrap();
    assert_eq!(wait_for(&cluster, id, "TIMEOUT").reason, "TimeLimit");
}

#[test]
fn what_has_ended_is_forgotten_as_soon_as_asked_for() {
    let cluster = Cluster::start(&Plan { nodes: 1, gpus: 0, min_job_age_s: 2, ..Plan::default() }).unwrap();
    let id = cluster.submit(&[NO_OUTPUT, "--wrap=true"]).unwrap();
    wait_until("that nobody remembers it", SOON, || Ok(cluster.remembered()?.is_empty())).unwrap();
    let error = cluster.run("squeue", &["-j", &id.to_string()]).unwrap_err().to_string();
    assert!(error.contains("Invalid job id specified"), "{error}");
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let cluster = start();
    let scratch = tempfile::tempdir().unwrap();
    let child = scratch.path().join("child");
    // What a job starts may forget where it came from.
    let script = format!("--wrap=env -i sleep 600 & echo $! >{}; exec sleep 600", child.display());
    cluster.submit(&[NO_OUTPUT, &script]).unwrap();
    wait_until("that the job begins", SOON, || Ok(lines(&child).len() == 1)).unwrap();
    let folder = cluster.folder().to_owned();
    // munged, slurmctld, two slurmd and the job at least.
    assert!(mentioning(&folder).len() > 4);
    drop(cluster);
    assert_eq!(mentioning(&folder), Vec::<PathBuf>::new());
    assert!(!folder.exists());
    assert_eq!(command(&lines(&child)[0]), None);
}

#[test]
fn a_cluster_whose_owner_is_killed_leaves_nothing() {
    let mut owner =
        Command::new(env!("CARGO_BIN_EXE_slurm-sandbox")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let conf = PathBuf::from(line.trim().strip_prefix("export SLURM_CONF=").unwrap());
    let folder = conf.parent().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let child = scratch.path().join("child");
    let script = format!("--wrap=env -i sleep 600 & echo $! >{}; exec sleep 600", child.display());
    let submitted = Command::new("sbatch").env("SLURM_CONF", &conf).args([NO_OUTPUT, &script]).output().unwrap();
    assert!(submitted.status.success(), "{submitted:?}");
    wait_until("that the job begins", SOON, || Ok(lines(&child).len() == 1)).unwrap();
    assert!(mentioning(folder).len() > 4);

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("that all of it is gone", SOON, || Ok(!folder.exists() && mentioning(folder).is_empty())).unwrap();
    assert_eq!(command(&lines(&child)[0]), None);
}
