//! Pilots end in every way that Slurm has; their jobs don't.

use crate::field::Field;

/// Long enough to be interrupted.
const EPOCHS: u32 = 40;

/// Waits until a job runs, on the only pilot; gives what Slurm calls that.
fn interrupted(field: &Field) -> (serde_json::Value, String) {
    field.scale(&["--max", "1", "--time", "30:00"]);
    field.submit("long", EPOCHS);
    let job = field.until_running("1");
    (job, field.pilots()[0]["launcher_id"].as_str().unwrap().to_owned())
}

/// Waits until the worker that had a job hasn't any more.
fn until_given_back(field: &Field, job: &serde_json::Value) {
    field.until("its job was given back", || {
        let state = field.job(job)["state"].clone();
        state == "queued" || field.pilots().len() > 1 || field.job(job)["worker"] != job["worker"]
    });
}

#[test]
fn a_pilot_that_somebody_cancels_gives_its_job_back_and_another_comes() {
    let field = Field::new();
    let (job, pilot) = interrupted(&field);
    field.cluster.run("scancel", &[&pilot]).unwrap();
    field.until("the pilot is over", || field.pilots()[0]["state"] == "ended");
    assert!(field.pilots()[0]["detail"].as_str().unwrap().contains("CANCELLED"), "{:#?}", field.pilots());
    assert_eq!(field.job(&job)["failures"], 0, "it was given back, not lost");
    // Another one comes, though not at once, and goes on from the last epoch.
    field.until_completed("1");
    assert_eq!((field.pilots().len(), &field.pool()["state"]), (2, &"active".into()));
    field.say(&["scale", "slurm", "off"]);
}

#[test]
fn a_pilot_that_is_put_back_into_the_queue_comes_again_under_its_name() {
    let field = Field::new();
    let (job, pilot) = interrupted(&field);
    field.cluster.run("scontrol", &["requeue", &pilot]).unwrap();
    until_given_back(&field, &job);
    field.until_completed("1");
    let pilots = field.pilots();
    assert_eq!((pilots.len(), pilots[0]["launcher_id"].as_str()), (1, Some(pilot.as_str())), "{pilots:#?}");
    field.say(&["scale", "slurm", "off"]);
}

#[test]
fn a_pilot_whose_time_is_up_is_no_crash() {
    let field = Field::new();
    let (job, pilot) = interrupted(&field);
    field.cluster.run("scontrol", &["update", &format!("JobId={pilot}"), "EndTime=now+1"]).unwrap();
    field.until("the pilot is over", || field.pilots()[0]["state"] == "ended");
    assert_eq!(field.job(&job)["failures"], 0);
    field.until_completed("1");
    assert_eq!(field.pool()["reason"], serde_json::Value::Null, "{}", field.pool());
    field.say(&["scale", "slurm", "off"]);
}

#[test]
fn a_node_that_dies_takes_no_job_along() {
    let mut field = Field::new();
    interrupted(&field);
    field.until("it's known where it runs", || field.queue().iter().any(|job| job.node.is_some()));
    let node = field.queue()[0].node.clone().unwrap();
    field.cluster.kill_node(node.trim_start_matches('n').parse().unwrap()).unwrap();
    // Slurm notices, and starts the pilot elsewhere under the same name.
    field.until_completed("1");
    let pilots = field.pilots();
    assert_eq!(pilots.len(), 1, "{pilots:#?}");
    assert_ne!(pilots[0]["node"].as_str(), Some(node.as_str()), "{pilots:#?}");
    field.say(&["scale", "slurm", "off"]);
}

#[test]
fn a_pilot_that_makes_room_for_others_is_no_crash() {
    let field = Field::new();
    field.scale(&["--max", "1", "--partition", "low", "--time", "30:00"]);
    field.submit("long", EPOCHS);
    let job = field.until_running("1");
    // All GPUs of both nodes.
    let array =
        ["--parsable", "--partition=high", "--array=0-3", "--gres=gpu:1", "--wrap=sleep 5", "--output=/dev/null"];
    field.cluster.submit(&array).unwrap();
    field.until("the pilot is over", || field.pilots()[0]["state"] == "ended");
    assert!(field.pilots()[0]["detail"].as_str().unwrap().contains("PREEMPTED"), "{:#?}", field.pilots());
    assert_eq!(field.job(&job)["failures"], 0);
    field.until_completed("1");
    assert_eq!(field.pool()["state"], "active");
    field.say(&["scale", "slurm", "off"]);
}

#[test]
fn pilots_outlive_the_coordinator_and_are_known_again() {
    let mut field = Field::new();
    let (job, pilot) = interrupted(&field);
    field.kill_coordinator();
    field.serve();
    field.until("its worker is back", || field.workers().len() == 1);
    field.until_completed("1");
    let pilots = field.pilots();
    assert_eq!((pilots.len(), pilots[0]["launcher_id"].as_str()), (1, Some(pilot.as_str())), "{pilots:#?}");
    assert_eq!(field.job(&job)["failures"], 0);
    field.until_none();
    // Without a coordinator they don't stay either.
    field.submit("quick", 1);
    field.until("another pilot works", || field.pool()["pilots"]["working"] == 1);
    field.kill_coordinator();
    field.until("it has left by itself", || field.queue().is_empty());
}
