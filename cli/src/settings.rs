//! The settings of one machine: where things lie, and what runs here. Only this file knows paths.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use promptfield_client::coordinator_address;
use promptfield_core::experiment::dataset::{Catalogue, DatasetDefinition};
use promptfield_core::experiment::{Known, LABEL, is_label};
use promptfield_core::input::{InvalidInput, from_toml, one_of};
use promptfield_core::job::backbone::{Activation, ArchitectureSettings};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::{Declaration, Methods};
use promptfield_core::scheduler::pilot_records::{PoolSettings, pool_name};
use promptfield_core::wire::trainer_wire::{BackboneFile, Backbones};
use promptfield_server::{Keep, Limits, PilotOptions, Retention, Tls, TokenRule, Webhook, url_here};
use promptfield_worker::Caches;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The file's name.
const FILE: &str = "promptfield.toml";
const DAY: Duration = Duration::from_hours(24);

/// What is in the file; everything has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    coordinator: CoordinatorSection,
    paths: PathsSection,
    backbones: BTreeMap<String, BackboneSection>,
    worker: WorkerSection,
    local: LocalSection,
}

/// A backbone: the path of its weights, or a table with what else there is to say of it.
#[derive(Debug)]
struct BackboneSection {
    weights: PathBuf,
    sha256: Option<BasisHash>,
    architecture: ArchitectureSettings,
}

impl<'de> Deserialize<'de> for BackboneSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            weights: PathBuf,
            sha256: Option<BasisHash>,
            activation: Option<Activation>,
            vision_heads: Option<u32>,
            text_heads: Option<u32>,
            mean: Option<[f64; 3]>,
            std: Option<[f64; 3]>,
        }

        struct PathOrKeys;

        impl<'de> Visitor<'de> for PathOrKeys {
            type Value = BackboneSection;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the path of a weights file, or a table with the key `weights`")
            }

            fn visit_str<E>(self, path: &str) -> Result<BackboneSection, E> {
                let (weights, architecture) = (path.into(), ArchitectureSettings::default());
                Ok(BackboneSection { weights, sha256: None, architecture })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BackboneSection, A::Error> {
                let Keys { weights, sha256, activation, vision_heads, text_heads, mean, std } =
                    Keys::deserialize(MapAccessDeserializer::new(map))?;
                let architecture = ArchitectureSettings { activation, vision_heads, text_heads, mean, std };
                Ok(BackboneSection { weights, sha256, architecture })
            }
        }

        deserializer.deserialize_any(PathOrKeys)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CoordinatorSection {
    listen: Option<String>,
    url: Option<String>,
    state: Option<PathBuf>,
    tokens: Option<String>,
    trusted_proxy: Option<String>,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    proxy: Option<String>,
    tls: Option<TlsSection>,
    /// Of earlier versions.
    speculation: Option<f64>,
    limits: LimitsSection,
    retention: RetentionSection,
    webhooks: Vec<WebhookSection>,
    pilots: PilotsSection,
    pools: BTreeMap<String, PoolSettings>,
}

/// See [`PilotOptions`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PilotsSection {
    program: Option<PathBuf>,
    settings: Option<PathBuf>,
    url: Option<String>,
    token_file: Option<PathBuf>,
    folder: Option<PathBuf>,
    look_every_s: Option<u32>,
}

/// See [`Webhook`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSection {
    url: String,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    events: Vec<String>,
}

/// See [`Limits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    waiting_requests: Option<u32>,
    waiting_workers: Option<u32>,
    streams: Option<u32>,
    registrations_per_minute: Option<u32>,
    connections: Option<u32>,
    heartbeat_s: Option<u32>,
    patience_s: Option<u32>,
    least_room_mib: Option<u32>,
}

/// See [`Retention`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetentionSection {
    events_days: Option<u32>,
    most_events: Option<u64>,
    logs_days: Option<u32>,
    most_log_lines: Option<u64>,
    metrics_days: Option<u32>,
    most_metric_points: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsSection {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PathsSection {
    data: Option<PathBuf>,
    datasets: Option<PathBuf>,
    methods: Option<PathBuf>,
    output: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WorkerSection {
    name: Option<String>,
    slots: Option<usize>,
    threads: Option<usize>,
    devices: Vec<String>,
    labels: Vec<String>,
    memory_mib: Option<u64>,
    trainer: Option<PathBuf>,
    image_cache_mib: Option<u64>,
    frozen_cache: Option<PathBuf>,
    frozen_cache_mib: Option<u64>,
    silence_s: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LocalSection {
    workers: Option<usize>,
}

impl LimitsSection {
    fn resolve(self) -> Result<Limits, InvalidInput> {
        let Self {
            waiting_requests,
            waiting_workers,
            streams,
            registrations_per_minute,
            connections,
            heartbeat_s,
            patience_s,
            least_room_mib,
        } = self;
        let default = Limits::default();
        let count = |field: &str, value: Option<u32>, default: usize| {
            Ok::<_, InvalidInput>(at_least_one("limits", field, value)?.map_or(default, |value| value as usize))
        };
        let seconds = |field: &str, value: Option<u32>, default: Duration| {
            let value = at_least_one("limits", field, value)?;
            Ok::<_, InvalidInput>(value.map_or(default, |value| Duration::from_secs(value.into())))
        };
        Ok(Limits {
            inbox: count("waiting_requests", waiting_requests, default.inbox)?,
            waiting: count("waiting_workers", waiting_workers, default.waiting)?,
            streams: count("streams", streams, default.streams)?,
            registrations: at_least_one("limits", "registrations_per_minute", registrations_per_minute)?
                .unwrap_or(default.registrations),
            connections: count("connections", connections, default.connections)?,
            heartbeat: seconds("heartbeat_s", heartbeat_s, default.heartbeat)?,
            patience: seconds("patience_s", patience_s, default.patience)?,
            // No room at all is a wish that can be had.
            least_room: least_room_mib.map_or(default.least_room, |mib| u64::from(mib) << 20),
        })
    }
}

impl WebhookSection {
    fn resolve(&self) -> Result<Webhook, InvalidInput> {
        let occasions = self.events.iter().map(|event| event.parse()).collect::<Result<_, _>>()?;
        Webhook::new(&self.url, occasions)
    }
}

/// Where pilots' settings count from.
struct PilotsPlace<'a> {
    file: Option<&'a Path>,
    base: &'a Path,
    state: &'a Path,
    url: Option<&'a str>,
}

impl PilotsPlace<'_> {
    fn resolve(self, section: PilotsSection, pools: BTreeMap<String, PoolSettings>) -> anyhow::Result<PilotOptions> {
        let Self { file, base, state, url } = self;
        // Where pilots run, paths may be others: they are taken as they are, but for those that count from this file.
        let at = |path: PathBuf| base.join(path);
        let program = match section.program {
            Some(program) => at(program),
            None => std::env::current_exe().context("can't tell where this program lies")?,
        };
        let folder = section.folder.map_or_else(|| state.join("pilots"), at);
        let mut options = PilotOptions::new(program, folder);
        options.settings = section.settings.map(at).or_else(|| file.map(Path::to_owned));
        options.url = section.url.or_else(|| url.map(str::to_owned));
        options.token_file = section.token_file.map(at);
        if let Some(seconds) = at_least_one("pilots", "look_every_s", section.look_every_s)? {
            options.look_every = Duration::from_secs(seconds.into());
        }
        for (name, settings) in pools {
            let checked = pool_name(&name).and_then(|()| settings.checked());
            let settings = checked.map_err(|error| error.under(&format!("coordinator.pools.{name}")))?;
            options.pools.insert(name, settings);
        }
        Ok(options)
    }
}

impl RetentionSection {
    fn resolve(self) -> Result<Retention, InvalidInput> {
        let Self { events_days, most_events, logs_days, most_log_lines, metrics_days, most_metric_points } = self;
        let default = Retention::default();
        let keep = |days: (&str, Option<u32>), rows: (&str, Option<u64>), default: Keep| {
            let age = at_least_one("retention", days.0, days.1)?.map(|days| DAY * days);
            let rows = at_least_one("retention", rows.0, rows.1)?;
            Ok::<_, InvalidInput>(Keep { age: age.unwrap_or(default.age), rows: rows.unwrap_or(default.rows) })
        };
        Ok(Retention {
            events: keep(("events_days", events_days), ("most_events", most_events), default.events)?,
            logs: keep(("logs_days", logs_days), ("most_log_lines", most_log_lines), default.logs)?,
            metrics: keep(("metrics_days", metrics_days), ("most_metric_points", most_metric_points), default.metrics)?,
        })
    }
}

/// Leaves what may be a webhook's address out of a refusal: its path is as good as a password.
fn hide_webhooks(mut refusal: InvalidInput) -> InvalidInput {
    for error in refusal.errors.iter_mut().filter(|error| error.field.starts_with("coordinator.webhooks")) {
        if error.value.contains('/') {
            "(not shown)".clone_into(&mut error.value);
        }
    }
    refusal
}

/// Refuses 0 for a key of one of the coordinator's sections.
fn at_least_one<T: Copy + PartialEq + From<u8>>(
    section: &str,
    field: &str,
    value: Option<T>,
) -> Result<Option<T>, InvalidInput> {
    if value == Some(T::from(0)) {
        let field = format!("coordinator.{section}.{field}");
        return Err(InvalidInput::new(field, 0, "a whole number of at least 1"));
    }
    Ok(value)
}

/// The settings in force, every path absolute.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The file they come from, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Where the coordinator listens.
    pub(crate) listen: SocketAddr,
    /// Where clients find it.
    pub(crate) url: Option<String>,
    /// The coordinator's database and artefacts.
    pub(crate) state: PathBuf,
    /// When the coordinator asks for a token.
    pub(crate) tokens: TokenRule,
    /// The proxy that may ask without a token where none is needed.
    pub(crate) trusted_proxy: Option<IpAddr>,
    /// The token that clients and workers show.
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities that may vouch for the coordinator.
    pub(crate) ca: Option<PathBuf>,
    /// The proxy between this machine and the coordinator.
    pub(crate) proxy: Option<String>,
    /// What the coordinator shows who it is with.
    pub(crate) tls: Option<Tls>,
    /// How much the coordinator takes on at once.
    pub(crate) limits: Limits,
    /// What the coordinator keeps for how long.
    pub(crate) retention: Retention,
    /// Who is told what happens, with the files of their secrets.
    webhooks: Vec<(Webhook, Option<PathBuf>)>,
    /// What workers are started with on demand.
    pub(crate) pilots: PilotOptions,
    /// The data root.
    pub(crate) data: PathBuf,
    /// The user's own data sets.
    pub(crate) datasets: PathBuf,
    /// The declarations of the user's own methods.
    methods: PathBuf,
    /// The output root.
    pub(crate) output: PathBuf,
    /// The backbones, by name.
    pub(crate) backbones: Backbones,
    /// The identities that the coordinator pins their names to.
    pub(crate) pins: BTreeMap<String, BasisHash>,
    /// The worker's name.
    pub(crate) worker_name: Option<String>,
    /// Jobs at once.
    pub(crate) slots: usize,
    /// CPU threads of each trainer.
    pub(crate) threads: Option<usize>,
    /// Devices; empty for what the trainer finds.
    pub(crate) devices: Vec<String>,
    /// What experiments may ask this machine's worker for.
    pub(crate) labels: Vec<String>,
    /// The memory that its slots share, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// What its trainers keep.
    pub(crate) silence: Option<Duration>,
    pub(crate) caches: Caches,
    /// The trainer's binary.
    pub(crate) trainer: PathBuf,
    /// Worker processes that `run` starts.
    pub(crate) local_workers: usize,
}

impl Settings {
    /// Reads the file named, or the first that lies at the usual places; without one, the defaults hold, relative to the
    /// working directory.
    pub(crate) fn load(named: Option<&Path>) -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("can't tell the working directory")?;
        let file = match named {
            Some(path) => Some(here.join(path)),
            None => usual_places(&here).into_iter().find(|path| path.is_file()),
        };
        let document = match &file {
            None => Document::default(),
            Some(path) => {
                let text = fs_err::read_to_string(path).map_err(|error| {
                    InvalidInput::new("settings", path.display(), format!("a readable settings file ({error})"))
                })?;
                from_toml(&text).map_err(hide_webhooks).with_context(|| format!("in {}", path.display()))?
            }
        };
        let base = file.as_deref().and_then(Path::parent).unwrap_or(&here).to_owned();
        Self::resolve(document, file, &base)
    }

    fn resolve(document: Document, file: Option<PathBuf>, base: &Path) -> anyhow::Result<Self> {
        let Document { coordinator, paths, backbones, worker, local } = document;
        let at = |path: Option<PathBuf>, default: &str| base.join(path.unwrap_or_else(|| default.into()));
        let listen = coordinator.listen.as_deref().unwrap_or("127.0.0.1:7878");
        let listen = listen.parse().map_err(|_| {
            InvalidInput::new("coordinator.listen", listen, "an address and a port, such as `127.0.0.1:7878`")
        })?;
        let trainer = match worker.trainer {
            Some(path) => base.join(path),
            None => beside_this_program("promptfield-trainer")?,
        };
        if let Some((i, label)) = worker.labels.iter().enumerate().find(|(_, label)| !is_label(label)) {
            return Err(InvalidInput::new(format!("worker.labels[{i}]"), label, LABEL).into());
        }
        if let Some(times) = coordinator.speculation {
            let expected = "no such setting: a job has one attempt at a time, and `worker.silence_s` limits how long its trainer may be silent";
            return Err(InvalidInput::new("coordinator.speculation", times, expected).into());
        }
        let tokens = match coordinator.tokens.as_deref() {
            None | Some("loopback-free") => TokenRule::LoopbackFree,
            Some("required") => TokenRule::Required,
            Some(other) => {
                let expected = one_of(other, ["required", "loopback-free"]);
                return Err(InvalidInput::new("coordinator.tokens", other, expected).into());
            }
        };
        let trusted_proxy = coordinator.trusted_proxy.map(|address| {
            let wrong = |_| InvalidInput::new("coordinator.trusted_proxy", &address, "an address, such as `127.0.0.1`");
            address.parse::<IpAddr>().map_err(wrong)
        });
        let webhook = |(index, section): (usize, WebhookSection)| {
            let secret = section.secret_file.as_ref().map(|path| base.join(path));
            let webhook = section.resolve().map_err(|error| error.under(&format!("coordinator.webhooks[{index}]")))?;
            Ok::<_, InvalidInput>((webhook, secret))
        };
        let mut pins = BTreeMap::new();
        let mut files = Backbones::new();
        for (name, BackboneSection { weights, sha256, architecture }) in backbones {
            architecture.check().map_err(|error| error.under(&format!("backbones.{name}")))?;
            pins.extend(sha256.map(|sha256| (name.clone(), sha256)));
            files.insert(name, BackboneFile { weights: base.join(weights), architecture });
        }
        let webhooks = coordinator.webhooks.into_iter().enumerate().map(webhook).collect::<Result<_, _>>()?;
        let state = at(coordinator.state, "var");
        let address = |field: &str, url: Option<String>| url.map(|url| coordinator_address(field, &url)).transpose();
        let url = address("coordinator.url", coordinator.url)?;
        let mut section = coordinator.pilots;
        section.url = address("coordinator.pilots.url", section.url)?;
        let pilots = PilotsPlace { file: file.as_deref(), base, state: &state, url: url.as_deref() };
        let pilots = pilots.resolve(section, coordinator.pools)?;
        for (field, value) in [("worker.slots", worker.slots), ("local.workers", local.workers)] {
            if value == Some(0) {
                return Err(InvalidInput::new(field, 0, "a whole number of at least 1").into());
            }
        }
        Ok(Self {
            file,
            listen,
            url,
            state,
            tokens,
            trusted_proxy: trusted_proxy.transpose()?,
            token_file: coordinator.token_file.map(|path| base.join(path)),
            ca: coordinator.ca.map(|path| base.join(path)),
            proxy: coordinator.proxy,
            tls: coordinator.tls.map(|tls| Tls { certificate: base.join(tls.certificate), key: base.join(tls.key) }),
            limits: coordinator.limits.resolve()?,
            retention: coordinator.retention.resolve()?,
            webhooks,
            pilots,
            data: at(paths.data, "data"),
            datasets: at(paths.datasets, "datasets"),
            methods: at(paths.methods, "methods"),
            output: at(paths.output, "output"),
            backbones: files,
            pins,
            worker_name: worker.name,
            slots: worker.slots.unwrap_or(1),
            threads: worker.threads,
            devices: worker.devices,
            labels: worker.labels,
            memory_mib: worker.memory_mib,
            silence: at_least_one("worker", "silence_s", worker.silence_s)?
                .map(|seconds| Duration::from_secs(seconds.into())),
            caches: Caches {
                images_mib: worker.image_cache_mib,
                frozen: worker.frozen_cache.map(|path| base.join(path)),
                frozen_mib: worker.frozen_cache_mib,
            },
            trainer,
            local_workers: local.workers.unwrap_or(1),
        })
    }

    /// Who is told what happens; reads the files with the secrets.
    pub(crate) fn webhooks(&self) -> anyhow::Result<Vec<Webhook>> {
        let signed = |(webhook, secret): &(Webhook, Option<PathBuf>)| match secret {
            None => Ok(webhook.clone()),
            Some(path) => {
                let secret = fs_err::read_to_string(path).context("can't read a webhook's secret")?;
                anyhow::ensure!(!secret.trim().is_empty(), "{}: a webhook's secret is empty", path.display());
                Ok(webhook.clone().signed_with(secret.trim()))
            }
        };
        self.webhooks.iter().map(signed).collect()
    }

    /// The names that experiments may use on this machine.
    pub(crate) fn known(&self) -> anyhow::Result<Known> {
        let mut datasets = Catalogue::built_in();
        for path in toml_files(&self.datasets)? {
            let text = fs_err::read_to_string(&path)?;
            let definition = DatasetDefinition::parse(&text).and_then(|definition| datasets.add(definition));
            definition.with_context(|| format!("in {}", path.display()))?;
        }
        Ok(Known { datasets, methods: self.methods()?, backbones: self.backbones.keys().cloned().collect() })
    }

    /// The methods that this machine knows: the built-in ones, and those that the user declares.
    pub(crate) fn methods(&self) -> anyhow::Result<Arc<Methods>> {
        let paths = toml_files(&self.methods)?;
        if paths.is_empty() {
            return Ok(Arc::clone(Methods::built_in()));
        }
        let mut methods = Methods::built_in().as_ref().clone();
        for path in paths {
            let text = fs_err::read_to_string(&path)?;
            let declaration = Declaration::parse(&text).and_then(|declaration| methods.add(declaration));
            declaration.with_context(|| format!("in {}", path.display()))?;
        }
        Ok(Arc::new(methods))
    }

    /// Refuses backbones whose weights aren't there, before anything is started that would need them.
    pub(crate) fn check_backbones(&self) -> anyhow::Result<()> {
        for (name, BackboneFile { weights, .. }) in &self.backbones {
            if !weights.is_file() {
                let expected = "a weights file that is there";
                return Err(InvalidInput::new(format!("backbones.{name}"), weights.display(), expected).into());
            }
        }
        Ok(())
    }

    /// The folder of user-defined data sets, if it is there.
    pub(crate) fn datasets_folder(&self) -> Option<PathBuf> {
        self.datasets.is_dir().then(|| self.datasets.clone())
    }

    /// The coordinator's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.state.join("promptfield.db")
    }

    /// The coordinator's address for clients: the one that was named, else the settings', else where the coordinator of this state
    /// said that it listens, else where the settings have it listen.
    pub(crate) fn coordinator_url(&self, named: Option<&str>) -> Result<String, InvalidInput> {
        if let Some(named) = named {
            return coordinator_address("--coordinator", named);
        }
        let noted = || fs_err::read_to_string(self.address_note()).ok();
        let noted = || noted().and_then(|url| coordinator_address("address", &url).ok());
        Ok(self.url.clone().or_else(noted).unwrap_or_else(|| url_here(self.tls.is_some(), self.listen)))
    }

    /// Where a coordinator that was told by `--listen` where to listen notes its address: clients with these settings can't know it.
    pub(crate) fn address_note(&self) -> PathBuf {
        self.state.join("address")
    }
}

fn usual_places(here: &Path) -> Vec<PathBuf> {
    let configuration = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let user = configuration.or(home).map(|folder| folder.join("promptfield").join(FILE));
    std::iter::once(here.join(FILE)).chain(user).collect()
}

/// The path of a program that is installed in the folder of this one.
fn beside_this_program(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("can't tell where this program lies")?;
    Ok(this.with_file_name(name))
}

fn toml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> anyhow::Result<Settings> {
        Settings::resolve(from_toml(text).map_err(hide_webhooks)?, None, Path::new("/machine"))
    }

    #[test]
    fn paths_count_from_the_file() {
        let settings =
            resolve("[paths]\ndata = \"d\"\noutput = \"/o\"\n[backbones]\n\"ViT-B/16\" = \"w/b.safetensors\"").unwrap();
        assert_eq!(settings.data, Path::new("/machine/d"));
        assert_eq!(settings.output, Path::new("/o"));
        assert_eq!(settings.backbones["ViT-B/16"].weights, Path::new("/machine/w/b.safetensors"));
        assert_eq!(settings.coordinator_url(None).unwrap(), "http://127.0.0.1:7878");
        assert_eq!(settings.coordinator_url(Some("http://head:1/")).unwrap(), "http://head:1");
    }

    #[test]
    fn who_listens_everywhere_is_called_at_home() {
        for (listen, url) in
            [("0.0.0.0:7", "http://127.0.0.1:7"), ("[::]:7", "http://[::1]:7"), ("10.0.0.1:7", "http://10.0.0.1:7")]
        {
            let settings = resolve(&format!("[coordinator]\nlisten = \"{listen}\"")).unwrap();
            assert_eq!(settings.coordinator_url(None).unwrap(), url);
        }
    }

    #[test]
    fn a_backbone_is_a_path_or_a_table() {
        let sha256 = "ab".repeat(32);
        let text = format!(
            "[backbones.h]\nweights = \"h.pt\"\nsha256 = \"{sha256}\"\nactivation = \"gelu\"\nvision_heads = 16\n\
             [backbones.\"ViT-B/16\"]\nweights = \"b.pt\""
        );
        let settings = resolve(&text).unwrap();
        let h = &settings.backbones["h"];
        assert_eq!((h.weights.as_path(), h.architecture.vision_heads), (Path::new("/machine/h.pt"), Some(16)));
        assert_eq!(settings.pins.keys().collect::<Vec<_>>(), ["h"]);
        assert_eq!(settings.pins["h"].to_string(), sha256);
        let error = |text: &str| resolve(text).unwrap_err().to_string();
        assert!(error("[backbones.h]\nweight = \"h\"").contains("did you mean `weights`?"));
        assert!(error("[backbones.h]\nweights = \"h\"\nactivation = \"relu\"").starts_with("`backbones.h.activation`"));
        assert!(error("[backbones.h]\nweights = \"h\"\nsha256 = \"12\"").contains("64 hexadecimal digits"));
        assert!(error("[backbones.h]\nweights = \"h\"\ntext_heads = 0").starts_with("`backbones.h.text_heads`"));
        assert!(error("[backbones]\nh = 3").contains("the path of a weights file"));
    }

    #[test]
    fn the_coordinators_limits_and_what_it_keeps_can_be_set() {
        let text = "[coordinator.limits]\nwaiting_requests = 7\nconnections = 9\npatience_s = 5\nleast_room_mib = 0\n\
                    [coordinator.retention]\nlogs_days = 3\nmost_log_lines = 9";
        let (settings, default) = (resolve(text).unwrap(), resolve("").unwrap());
        let patience = Duration::from_secs(5);
        let limits = Limits { inbox: 7, connections: 9, patience, least_room: 0, ..Limits::default() };
        assert_eq!((settings.limits, default.limits), (limits, Limits::default()));
        let retention = Retention { logs: Keep { age: DAY * 3, rows: 9 }, ..Retention::default() };
        assert_eq!((settings.retention, default.retention), (retention, Retention::default()));
    }

    #[test]
    fn wrong_settings_are_named() {
        let error = |text: &str| resolve(text).unwrap_err().to_string();
        assert!(error("[worker]\nslot = 1").contains("did you mean `slots`?"));
        assert!(error("[coordinator]\ntrusted_proxy = \"nginx\"").starts_with("`coordinator.trusted_proxy`: `nginx`"));
        assert!(error("[coordinator]\nlisten = \"here\"").starts_with("`coordinator.listen`: `here`"));
        let gone = error("[coordinator]\nspeculation = 3.0");
        assert!(gone.starts_with("`coordinator.speculation`: `3`") && gone.contains("`worker.silence_s`"), "{gone}");
        for (key, value) in [("url", "http://0.0.0.0:7878"), ("url", "head:7878"), ("pilots.url", "http://[::]:7878")] {
            let error = error(&format!("[coordinator]\n{key} = \"{value}\""));
            assert!(error.starts_with(&format!("`coordinator.{key}`: `{value}` is not valid")), "{error}");
        }
        assert!(error("[worker]\nslots = 0").starts_with("`worker.slots`: `0`"));
        let webhooks =
            "[[coordinator.webhooks]]\nurl = \"http://a/b\"\n[[coordinator.webhooks]]\nurl = \"http://a/c\"\n";
        assert!(
            error(&format!("{webhooks}events = [\"job_fails\"]"))
                .starts_with("`coordinator.webhooks[1].events`: `job_fails`")
        );
        // An address is as good as a password, wrong or not.
        for hook in [
            "[[coordinator.webhooks]]\nurl = \"htps://chat/SECRET\"",
            "[[coordinator.webhooks]]\nurl = [\"https://chat/SECRET\"]",
            "[coordinator]\nwebhooks = [\"https://chat/SECRET\"]",
            "[coordinator]\nwebhooks = \"https://chat/SECRET\"",
            "[coordinator.webhooks]\nurl = \"https://chat/SECRET\"",
            "[[coordinator.webhooks]]\nurl = \"https://chat/A\"\nevents = \"https://chat/SECRET\"",
            "[[coordinator.webhooks]]\nurl = \"https://chat/A\"\n\"https://chat/SECRET\" = 1",
            "[[coordinator.webhooks]]\nurl = \"https://chat/SECRET\"\nurl = \"https://chat/SECRET\"",
            "[[coordinator.webhooks]]\nurl = https://chat/SECRET",
        ] {
            let error = format!("{:#}", resolve(hook).unwrap_err());
            assert!(!error.contains("SECRET"), "{error}");
        }
        assert!(
            error("[[coordinator.webhooks]]\nurl = \"chat\"")
                .starts_with("`coordinator.webhooks[0].url`: `(not shown)`")
        );
        assert!(error("[coordinator]\ntokens = \"require\"").contains("did you mean `required`?"));
        assert!(error("[coordinator.limits]\nstreams = 0").starts_with("`coordinator.limits.streams`: `0`"));
        assert!(error("[coordinator.limits]\nstream = 1").contains("did you mean `streams`?"));
        let error_of_days = error("[coordinator.retention]\nlogs_days = -1");
        assert!(error_of_days.starts_with("`coordinator.retention.logs_days`: `-1`"), "{error_of_days}");
        assert!(error("[coordinator.retention]\nmost_events = 0").contains("a whole number of at least 1"));
        assert!(error("[coordinator.tls]\ncertificate = \"c\"").starts_with("`coordinator.tls.key`"));
    }
}
