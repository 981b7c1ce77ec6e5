//! A cluster, and a coordinator on it.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use slurm_sandbox::{Cluster, Job, Plan, wait_until};

use crate::site::{Running, Served, Site, text};

/// On a machine that does several of these at once.
const LONG: Duration = Duration::from_mins(4);

pub(crate) struct Field {
    // In this order: who asks the cluster goes before it.
    served: Option<Served>,
    pub(crate) site: Site,
    pub(crate) cluster: Cluster,
    address: String,
    /// For the commands.
    variables: Vec<(&'static str, &'static str)>,
}

impl Field {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// One whose coordinator has further settings for pilots.
    fn with(settings: &str) -> Self {
        let field = Self::down(settings, &[]);
        field.started()
    }

    /// One whose coordinator asks everybody for a token.
    pub(crate) fn with_tokens() -> Self {
        let mut field = Self::down("", &[("PROMPTFIELD_TOKEN_FILE", "admin.token")]);
        let settings = std::fs::read_to_string(field.site.path("promptfield.toml")).unwrap();
        let settings = settings.replacen("[coordinator]\n", "[coordinator]\ntokens = \"required\"\n", 1);
        field.site.write("promptfield.toml", &settings);
        field.variables.clear();
        field.say(&["token", "create", "admin", "--scope", "admin", "--output", "admin.token"]);
        field.variables.push(("PROMPTFIELD_TOKEN_FILE", "admin.token"));
        field.started()
    }

    fn down(settings: &str, variables: &[(&'static str, &'static str)]) -> Self {
        let cluster = Cluster::start(&Plan::default()).unwrap();
        let site = Site::new();
        site.settings(&format!("[coordinator.pilots]\nlook_every_s = 1\n{settings}"));
        Self { served: None, site, cluster, address: "127.0.0.1:0".to_owned(), variables: variables.to_vec() }
    }

    fn started(mut self) -> Self {
        self.serve();
        self
    }

    /// Starts the coordinator again, whose pilots have settings of their own, which begin so.
    pub(crate) fn with_settings_of_pilots(&mut self, settings: &str) {
        let own = std::fs::read_to_string(self.site.path("promptfield.toml")).unwrap();
        let theirs = own.replacen("[paths]\n", settings, 1);
        self.site.write("pilots.toml", &theirs);
        self.site.settings("[coordinator.pilots]\nlook_every_s = 1\nsettings = \"pilots.toml\"\n");
        self.kill_coordinator();
        self.serve();
    }

    /// Starts the coordinator, the second time where it was before.
    pub(crate) fn serve(&mut self) {
        let running = Running::by(self.command(&["serve", "--listen", &self.address]));
        running.url.trim_start_matches("http://").clone_into(&mut self.address);
        self.served = Some(Served(running));
    }

    /// Ends the coordinator as a power cut would.
    pub(crate) fn kill_coordinator(&mut self) {
        drop(self.served.take());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.site.command(args);
        command.env("SLURM_CONF", self.cluster.conf());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.envs(self.variables.iter().copied());
        if self.served.is_some() {
            command.env("PROMPTFIELD_COORDINATOR", format!("http://{}", self.address));
        }
        command.output().unwrap()
    }

    /// What a command prints that must not fail.
    pub(crate) fn say(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.say(&[args, &["--json"]].concat())).unwrap()
    }

    /// Has a pool of pilots with a GPU each.
    pub(crate) fn scale(&self, more: &[&str]) {
        self.say(&[&["scale", "slurm", "pool", "--gres", "gpu:1", "--idle", "5s"], more].concat());
    }

    /// Submits a training with its test, of so many epochs.
    pub(crate) fn submit(&self, name: &str, epochs: u32) {
        let text = format!(
            "name = \"{name}\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\"]\ndatasets = [\"icons\"]\nseeds = [1]\n\
             shots = [4]\nbackbone = \"clip-mini\"\n[overrides]\nepochs = {epochs}\n"
        );
        self.site.write("experiment.toml", &text);
        self.say(&["submit", "experiment.toml"]);
    }

    /// Those that are here.
    pub(crate) fn workers(&self) -> Vec<Value> {
        let workers = self.json(&["status"])["workers"].as_array().unwrap().clone();
        workers
            .into_iter()
            .filter(|worker| ["active", "draining"].contains(&worker["state"].as_str().unwrap()))
            .collect()
    }

    pub(crate) fn pool(&self) -> Value {
        self.json(&["scale", "status"])["pools"][0].clone()
    }

    /// All pilots there ever were, oldest first.
    pub(crate) fn pilots(&self) -> Vec<Value> {
        let mut pilots = self.json(&["scale", "status"])["pilots"].as_array().unwrap().clone();
        pilots.reverse();
        pilots
    }

    /// What Slurm has of the pilots.
    pub(crate) fn queue(&self) -> Vec<Job> {
        let mut queue = self.cluster.queue().unwrap_or_default();
        queue.retain(|job| job.name.starts_with("pf-"));
        queue
    }

    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let waited = wait_until(what, LONG, || Ok(holds()));
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.tell()));
    }

    /// Waits until an experiment's jobs have all completed.
    pub(crate) fn until_completed(&self, experiment: &str) {
        self.until("all jobs have completed", || {
            let experiment = &self.json(&["status", experiment])["experiment"]["counts"];
            let count = |state: &str| experiment[state].as_u64().unwrap();
            assert_eq!(count("failed"), 0, "{}", self.tell());
            ["blocked", "queued", "leased", "running"].iter().all(|state| count(state) == 0)
        });
    }

    /// Waits until the first job of an experiment has done its first step; gives it.
    pub(crate) fn until_running(&self, experiment: &str) -> Value {
        let mut found = Value::Null;
        self.until("a job runs", || {
            let jobs = self.json(&["status", experiment])["jobs"].clone();
            let running =
                jobs.as_array().unwrap().iter().find(|job| job["progress"]["step"].as_u64() > Some(0)).cloned();
            found = running.unwrap_or_default();
            !found.is_null()
        });
        found
    }

    /// Waits until Slurm has no pilot and the coordinator knows it.
    pub(crate) fn until_none(&self) {
        self.until("there is no pilot", || self.queue().is_empty());
        self.until("the coordinator knows it", || {
            self.pilots().iter().all(|pilot| ["ended", "failed"].contains(&pilot["state"].as_str().unwrap()))
        });
    }

    pub(crate) fn job(&self, job: &Value) -> Value {
        let jobs = self.json(&["status", "1"])["jobs"].clone();
        jobs.as_array().unwrap().iter().find(|known| known["id"] == job["id"]).cloned().unwrap()
    }

    /// Everything that helps to understand a failure.
    fn tell(&self) -> String {
        let status = |args: &[&str]| text(&self.run(args).stdout);
        let queue: Vec<_> = self.cluster.remembered().unwrap_or_default();
        let mut told = format!("{}\n{}\n{queue:#?}\n", status(&["status", "1"]), status(&["scale", "status"]));
        for entry in std::fs::read_dir(self.site.path("var/pilots")).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            told.push_str(&format!("--- {}\n{log}\n", entry.file_name().display()));
        }
        told
    }
}
