//! The numbers by class on their way to the coordinator.

use promptfield_core::job::layout::EVALUATION_FILE;
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::trainer_wire::Reply;

use crate::support::{Coordinator, Host, evaluation};

#[tokio::test]
async fn the_numbers_by_class_come_with_the_result() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    trainer.do_job().await;
    // A folder that was complete already hands over what lies in it.
    let running = trainer.hear_job().await;
    let mut outcome = running.finish();
    outcome.adopted = true;
    trainer.say(&Reply::Completed { id: running.id, outcome: Box::new(outcome) }).await;
    coordinator.until(base, JobStateName::Completed).await;
    coordinator.until(new, JobStateName::Skipped).await;
    for job in [base, new] {
        assert_eq!(coordinator.evaluation(job).await, Some(evaluation()));
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_without_them_or_with_others_has_its_result_all_the_same() {
    let coordinator = Coordinator::start().await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let [lost, changed] = coordinator.submit("zero_shot").await;
    for job in [lost, changed] {
        let running = trainer.hear_job().await;
        let outcome = running.finish();
        let file = running.job.output.join(EVALUATION_FILE);
        if job == lost {
            fs_err::remove_file(file).unwrap();
        } else {
            let text = fs_err::read_to_string(&file).unwrap();
            fs_err::write(file, text.replace("cat", "dog")).unwrap();
        }
        trainer.say(&Reply::Completed { id: running.id, outcome: Box::new(outcome) }).await;
        coordinator.until(job, JobStateName::Completed).await;
        assert_eq!(coordinator.evaluation(job).await, None);
    }
    // An earlier version's manifest knows of no such file.
    let [early, _] = coordinator.submit("alignednorm").await;
    let running = trainer.hear_job().await;
    let mut outcome = running.finish();
    outcome.manifest.as_mut().unwrap().files.remove(EVALUATION_FILE);
    trainer.say(&Reply::Completed { id: running.id, outcome: Box::new(outcome) }).await;
    coordinator.until(early, JobStateName::Completed).await;
    assert_eq!(coordinator.evaluation(early).await, None);
    worker.stop().await.unwrap();
}
