//! Output folders on the disk: complete or absent.
//!
//! The trainer makes them, and the worker reads them and puts what another machine left into place. Both lock, put aside, write and
//! hash by what is here, so that neither breaks what the other relies on. Nothing here needs a model or a network.

pub mod file;
mod folder;
mod found;
pub mod partial;

pub use folder::{FolderError, Opened, Today, WorkFolder, find_complete, open};
pub use found::{Foreign, ManifestError, earlier_training, look_at_output, manifest_in, test_of};
