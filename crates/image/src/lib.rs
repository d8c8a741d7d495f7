//! Images: archives in, verified content on disk, overlay lower directories out.
//!
//! What is here, in the order content passes through it:
//!
//! - `archive`: reads `docker save` archives, OCI layouts and plain root file systems; writes archives again.
//! - [`document`]: manifests, indexes and configurations, read into closed structs and validated.
//! - [`store`]: blobs by digest, unpacked layers, records of complete images, garbage collection.
//! - `unpack`: the extractor; the only code that acts on what a layer says.
//! - [`tree`]: archives of whole trees of files, such as volumes.
//! - [`builder`]: makes images from files in memory.
//!
//! Everything is synchronous: callers run it where blocking is allowed.
//!
//! **Invariant:** nothing found in an archive, a layer or a configuration is ever used as a host path, executed, or trusted for
//! its size. Whatever is installed under a digest has been hashed while it was written.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod archive;
pub mod builder;
pub mod document;
pub mod error;
pub mod limits;
pub mod store;
mod unpack;

mod decompress;
mod hash;
mod json;
mod spool;
mod tar;
pub mod tree;
mod walk;

pub use archive::import::{ChangeError, ImportChange};
pub use document::config::ImageConfig;
pub use document::platform::Platform;
pub use error::{ErrorClass, ImageError, LimitKind, Refusal};
pub use limits::Limits;
pub use store::{
    BlobDescriptor, BlobWriter, Collected, DiskUsage, ImageRecord, ImageStore, LayerRecord, PreparedImage,
};
