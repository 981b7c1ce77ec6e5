//! What can't be is said at once, and what goes wrong is said where people look.

use crate::field::Field;
use crate::site::text;

#[test]
fn what_the_cluster_does_not_have_is_refused_at_once_by_name() {
    let field = Field::new();
    let refused = |more: &[&str]| {
        let output = field.run(&[&["scale", "slurm", "pool", "--max", "1"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", text(&output.stderr));
        text(&output.stderr)
    };
    let partition = refused(&["--partition", "nope"]);
    assert!(partition.contains("`partition`: `nope`") && partition.contains("invalid partition"), "{partition}");
    let gres = refused(&["--gres", "gpu:9"]);
    assert!(gres.contains("`gres`: `gpu:9`") && gres.contains("node configuration"), "{gres}");
    let time = refused(&["--partition", "short", "--time", "10:00"]);
    assert!(time.contains("`time_s`: `600`") && time.contains("at most 120"), "{time}");
    let constraint = refused(&["--constraint", "moonlight"]);
    assert!(constraint.contains("`options`") && constraint.contains("feature"), "{constraint}");
    let ours = refused(&["--", "--job-name=x"]);
    assert!(ours.contains("`options[0]`: `--job-name=x`"), "{ours}");
    assert!(field.pool().is_null(), "{}", field.pool());
}

#[test]
fn a_pilot_that_comes_to_nothing_says_why_and_the_next_one_waits() {
    let field = Field::new();
    field.site.write("setup.sh", "echo 'module: cuda/99 is not there' >&2; exit 3\n");
    let setup = field.site.path("setup.sh");
    field.scale(&["--max", "1", "--min", "1", "--setup", setup.to_str().unwrap()]);
    field.until("the pilot has failed", || field.pool()["reason"].is_string());
    let pool = field.pool();
    let reason = pool["reason"].as_str().unwrap();
    assert!(reason.contains("FAILED") && reason.contains("cuda/99 is not there"), "{reason}");
    assert_eq!((&field.pilots()[0]["state"], field.queue().len()), (&"failed".into(), 0));
}

#[test]
fn a_cluster_that_cannot_be_asked_is_no_reason_to_give_up() {
    let mut field = Field::new();
    field.scale(&["--max", "1"]);
    field.submit("quick", 2);
    field.until_running("1");
    field.cluster.kill_controller().unwrap();
    // What runs goes on, and what is asked for is refused in good time.
    field.until_completed("1");
    let output = field.run(&["scale", "slurm", "other", "--max", "1"]);
    assert!(text(&output.stderr).contains("can't be asked now"), "{}", text(&output.stderr));
    field.cluster.start_controller().unwrap();
    field.until_none();
    field.submit("again", 1);
    field.until_completed("2");
    field.say(&["scale", "slurm", "off"]);
}
