//! The coordinator: takes experiments, hands their jobs to workers, keeps their results.
//!
//! The rule of this crate: [`promptfield_core`] decides, this crate stores and answers. One task, the writer, owns the
//! scheduler and the only connection that writes to the database. A handler of an HTTP request never touches either: it sends
//! a command or a question to the writer and waits. The writer takes everything that waits, applies it in order, commits all
//! of it in one transaction, and only then answers; so an answer means that the change is on the disk, no two requests can
//! race, and the state in memory is never ahead of the database in anyone's eyes. A commit that fails is answered with 503,
//! and the state is rebuilt from the database.
//!
//! What is only read and not needed for deciding (attempts, manifests, logs, metric points, the event log) comes from a pool
//! of read connections that never wait for the writer. Followers of events are told that there is news and read it from the
//! database at their own pace, so a slow one costs no memory.
//!
//! | module | what |
//! | --- | --- |
//! | `coordinator` | starting and stopping |
//! | `writer` | the one task that changes anything |
//! | `tokens` | who may do what |
//! | `tls` | HTTPS |
//! | `webhooks` | telling others what happens |
//! | `launch` | starting and ending workers on demand |
//! | `upkeep` | what is done by itself now and then |
//! | `retention` | how long what isn't needed for going on is kept |
//! | `offline` | the database while no coordinator runs |
//! | `store` | the database; all SQL |
//! | `artefacts` | checkpoints, by their SHA-256 |
//! | `limits`, `listener`, `room` | what is refused when there is too much of it |
//! | `loads` | what workers' devices are at |
//! | `metrics` | what is measured |
//! | `http` | the routes |

mod artefacts;
mod clock;
mod coordinator;
mod http;
mod launch;
mod limits;
mod listener;
mod loads;
mod metrics;
mod offline;
mod retention;
mod room;
mod store;
mod tls;
mod tokens;
mod upkeep;
mod webhooks;
mod writer;

pub use coordinator::{Coordinator, Options, Security, StartError, TokenRule, url_here};
pub use launch::PilotOptions;
pub use limits::Limits;
pub use offline::{Database, DatabaseError};
pub use retention::{Keep, Retention};
pub use store::{Care, Health, network_file_system};
pub use tls::Tls;
pub use webhooks::Webhook;
