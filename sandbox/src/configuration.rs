//! What a cluster is like, and the files that say so to Slurm.

use std::fmt::Write;
use std::path::Path;

/// What a cluster is like.
///
/// It always has the partitions `gpu` (the default one), `short` (two minutes at most), `low` and `high`; a job in `high`
/// that finds no room ends jobs in `low`, which are then `PREEMPTED`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes: `n1`, `n2`, …
    pub nodes: u32,
    /// How many CPUs a node says it has, whatever the machine has.
    pub cpus: u32,
    /// How many GPUs a node says it has.
    pub gpus: u32,
    /// How much memory a node says it has; no job is held to it.
    pub memory_mib: u32,
    /// For how long the controller remembers a job that has ended, in seconds; Slurm's least is 2.
    pub min_job_age_s: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: 2, cpus: 8, gpus: 2, memory_mib: 8000, min_job_age_s: 300 }
    }
}

/// What differs between two clusters of the same plan.
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    /// The user that everything runs as.
    pub(crate) user: &'a str,
    /// The controller's, then each node's.
    pub(crate) ports: &'a [u16],
}

/// The settings that are the same for every cluster.
///
/// A node is down once it hasn't answered for `SlurmdTimeout`, which is found out by messages that may take `MessageTimeout`;
/// shorter ones would find nodes lost that are merely slow. `cred_expire` is how long a requeued job waits.
const COMMON: &str = "\
ClusterName=sandbox
SlurmctldHost=localhost(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,sched_min_interval=20000,bf_interval=1,default_queue_depth=1000
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=100001
MaxJobCount=200000
KillWait=5
OverTimeLimit=0
InactiveLimit=0
CompleteWait=0
SlurmctldTimeout=10
SlurmdTimeout=6
MessageTimeout=5
TCPTimeout=1
SlurmctldDebug=info
SlurmdDebug=info
";

impl Plan {
    /// `slurm.conf`.
    pub(crate) fn slurm_conf(&self, place: &Place) -> String {
        let Self { nodes, cpus, gpus, memory_mib, min_job_age_s } = self;
        let Place { folder, user, ports } = place;
        let folder = folder.display();
        let mut text = format!(
            "{COMMON}\
             SlurmUser={user}\n\
             SlurmdUser={user}\n\
             AuthInfo=socket={folder}/munge/socket,cred_expire=5\n\
             StateSaveLocation={folder}/controller/state\n\
             SlurmdSpoolDir={folder}/%n\n\
             SlurmctldPidFile={folder}/controller/pid\n\
             SlurmdPidFile={folder}/%n/pid\n\
             SlurmctldPort={}\n\
             MinJobAge={min_job_age_s}\n",
            ports[0]
        );
        for (index, port) in (1..=*nodes).zip(&ports[1..]) {
            let _ = write!(
                text,
                "NodeName=n{index} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 \
                 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory_mib}"
            );
            text.push_str(&if *gpus > 0 { format!(" Gres=gpu:fake:{gpus}\n") } else { "\n".to_owned() });
        }
        for (name, is_default, max_time, tier, preemption) in [
            ("gpu", "YES", "INFINITE", 1, "OFF"),
            ("short", "NO", "2", 1, "OFF"),
            ("low", "NO", "INFINITE", 1, "CANCEL"),
            ("high", "NO", "INFINITE", 2, "OFF"),
        ] {
            let _ = writeln!(
                text,
                "PartitionName={name} Nodes=n[1-{nodes}] Default={is_default} MaxTime={max_time} State=UP \
                 PriorityTier={tier} PreemptMode={preemption}"
            );
        }
        text
    }

    /// `gres.conf`: the GPUs are other names of `/dev/null`, as Slurm numbers only what is a device.
    pub(crate) fn gres_conf(&self, folder: &Path) -> String {
        let mut text = "AutoDetect=off\n".to_owned();
        for gpu in 0..self.gpus {
            let nodes = self.nodes;
            let _ =
                writeln!(text, "NodeName=n[1-{nodes}] Name=gpu Type=fake File={}/dev/nvidia{gpu}", folder.display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_port_of_its_own_and_the_gpus_asked_for() {
        let place = Place { folder: Path::new("/tmp/x"), user: "root", ports: &[20_001, 20_002, 20_003] };
        let text = Plan { gpus: 3, ..Plan::default() }.slurm_conf(&place);
        assert!(text.contains("SlurmctldPort=20001\n"), "{text}");
        for (name, port) in [("n1", 20_002), ("n2", 20_003)] {
            let line = text.lines().find(|line| line.starts_with(&format!("NodeName={name} "))).unwrap();
            assert!(line.contains(&format!(" Port={port} ")) && line.ends_with(" Gres=gpu:fake:3"), "{line}");
        }
    }

    #[test]
    fn a_cluster_may_have_no_gpus() {
        let plan = Plan { gpus: 0, ..Plan::default() };
        let place = Place { folder: Path::new("/tmp/x"), user: "root", ports: &[20_001, 20_002, 20_003] };
        assert!(!plan.slurm_conf(&place).contains("Gres=gpu"));
        assert_eq!(plan.gres_conf(place.folder), "AutoDetect=off\n");
    }
}
