//! What reports cost on their way.

use promptfield_core::scheduler::JobStateName;

use crate::support::{Coordinator, Host, Wire};

fn count(sent: &[u8], text: &str) -> usize {
    sent.windows(text.len()).filter(|window| window.eq_ignore_ascii_case(text.as_bytes())).count()
}

#[tokio::test]
async fn long_reports_travel_compressed_and_short_ones_as_they_are() {
    let coordinator = Coordinator::start().await;
    let wire = Wire::to(&coordinator).await;
    let [short, long] = coordinator.submit("zero_shot").await;
    let mut host = Host::new("a", &coordinator);
    host.options.coordinator = wire.url();
    let (worker, mut trainer) = host.start_with_trainer().await;
    trainer.do_job().await;
    coordinator.until(short, JobStateName::Completed).await;
    assert_eq!(count(&wire.sent(), "content-encoding: gzip"), 0);
    let running = trainer.hear_job().await;
    let lines: Vec<String> = (0..400).map(|line| format!("{line:03} {}", "epoch [1/2]".repeat(20))).collect();
    for line in &lines {
        trainer.log(&running, line).await;
    }
    trainer.complete(&running).await;
    coordinator.until(long, JobStateName::Completed).await;
    assert_eq!(coordinator.log(long).await, lines);
    let sent = wire.sent();
    assert!(count(&sent, "content-encoding: gzip") > 0);
    assert!(sent.len() < lines.concat().len() / 2, "{}", sent.len());
    worker.stop().await.unwrap();
}
