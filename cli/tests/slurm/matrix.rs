//! Matrices on pilots.

use crate::field::Field;
use crate::site::text;

#[test]
fn the_demo_runs_from_an_empty_cluster_to_its_table_and_back_to_none() {
    let field = Field::new();
    field.scale(&["--partition", "gpu", "--time", "30:00", "--max", "4"]);
    assert!(field.queue().is_empty(), "nobody asked for anything yet");
    let output = field.run(&["submit", "demo", "--wait"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for word in ["caltech101", "icons", "AlignedNorm", "MMRL++", "average"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(!table.contains('*'), "nothing is provisional: {table}");
    field.until_none();
    let pilots = field.pilots();
    assert!((2..=4).contains(&pilots.len()), "{pilots:#?}");
    assert!(pilots.iter().all(|pilot| pilot["state"] == "ended" && !pilot["worker"].is_null()), "{pilots:#?}");
    assert!(pilots.iter().all(|pilot| ["n1", "n2"].contains(&pilot["node"].as_str().unwrap())), "{pilots:#?}");
    // They saw the coordinator's output root, so that nothing was copied; and the same pool takes the next matrix.
    assert!(!field.site.complete_folders().is_empty());
    assert!(!field.site.path("output/.artefacts").exists());
    assert_eq!(field.pool()["state"], "active");
    field.submit("again", 1);
    field.until_completed("2");
    field.say(&["scale", "slurm", "off"]);
    assert_eq!(field.pool()["state"], "off");
    assert!(field.queue().is_empty());
}

#[test]
fn a_pilot_of_several_gpus_has_as_many_slots_and_its_token_stays_in_a_file() {
    let field = Field::with_tokens();
    field.say(&["scale", "slurm", "pool", "--gres", "gpu:2", "--max", "1", "--idle", "5s", "--cpus-per-task", "2"]);
    field.submit("quick", 1);
    field.until("its worker has come", || field.pool()["pilots"]["working"] == 1);
    let workers = field.workers();
    assert_eq!((workers.len(), workers[0]["slots"].as_u64()), (1, Some(2)), "{workers:#?}");
    let secret = std::fs::read_to_string(field.site.path("var/pilots/token")).unwrap();
    let job = field.pilots()[0]["launcher_id"].as_str().unwrap().to_owned();
    let shown = field.cluster.run("scontrol", &["show", "job", &job, "--details"]).unwrap();
    assert!(shown.contains("gpu:fake:2") || shown.contains("gres:gpu:2") || shown.contains("gpu:2"), "{shown}");
    let script = field.cluster.run("scontrol", &["write", "batch_script", &job, "-"]).unwrap();
    assert!(script.contains("--token-file") && !script.contains(secret.trim()), "{script}");
    assert!(!shown.contains(secret.trim()), "{shown}");
    field.until_completed("1");
    field.until_none();
}

#[test]
fn workers_without_the_coordinator_s_folders_send_what_they_make() {
    let mut field = Field::new();
    // The pilots' machine has the same data and weights, and another output root.
    field.with_settings_of_pilots("[paths]\noutput = \"elsewhere\"\n");
    field.scale(&["--max", "2"]);
    field.submit("quick", 1);
    field.until_completed("1");
    assert!(field.site.complete_folders().is_empty(), "{:?}", field.site.complete_folders());
    let artefacts = std::fs::read_dir(field.site.path("var/artefacts")).unwrap().count();
    assert!(artefacts > 0, "the checkpoint is with the coordinator");
    field.say(&["scale", "slurm", "off"]);
}
