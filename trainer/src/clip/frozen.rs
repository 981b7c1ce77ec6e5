//! What the frozen image tower makes of images, kept on the disk for all trainers of a machine.
//!
//! Jobs of the same seed and data set see the same augmented images in the same batches, whatever their method
//! ([`crate::draws`]), and all jobs see the same test images. So the tower's features and its layers before the first one with
//! tokens are computed once for all of them.
//!
//! An entry's key is the SHA-256 of the batch's pixels and of everything else that its bits depend on ([`Frozen::new`]); the
//! pixels stand for the split, the augmentation, seed, epoch and step. An entry is written beside its place and renamed, and
//! is checked when it's read: one that is damaged is computed again. Whoever computes one holds its lock. Those that were
//! used least recently make room. A failing disk costs time, never a job.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err::{File, OpenOptions};
use promptfield_core::VERSION;
use promptfield_core::job::spec::hex;
use promptfield_core::names::Precision;
use sha2::{Digest as _, Sha256};
use tch::{Device, Tensor};

use super::weights::MappedFile;
use crate::working;

/// A folder of entries of at most so many bytes in all.
#[derive(Clone, Debug)]
pub struct FrozenCache {
    folder: PathBuf,
    budget: u64,
}

/// An entry's key.
type Key = [u8; 32];

const MAGIC: &[u8; 8] = b"PFfrozn1";
/// Before the numbers: the magic, the shape filled up with ones, and the SHA-256 of key, these and the numbers.
const HEADER: usize = 128;
const DIMENSIONS: usize = 4;
const DIGEST: std::ops::Range<usize> = 64..96;
const SUFFIX: &str = "frozen";
/// A file that was begun before that was left behind by a trainer that died.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

impl FrozenCache {
    /// The entries in `folder`, which is made if it isn't there, kept below `budget` bytes.
    pub fn open(folder: &Path, budget: u64) -> io::Result<Self> {
        fs_err::create_dir_all(folder.join("locks"))?;
        Ok(Self { folder: fs_err::canonicalize(folder)?, budget })
    }

    /// The entry `key`, or what `compute` gives, which is kept: contiguous 32-bit floats of at most four dimensions.
    fn get(&self, key: &Key, device: Device, compute: impl FnOnce() -> Tensor) -> Tensor {
        if let Some(found) = self.read(key) {
            return found.to_device(device);
        }
        // Someone else may be computing it, and has it when the lock is free. Without a lock it's computed all the same.
        let lock = self.lock(&format!("locks/{:02x}", key[0]));
        if let Some(found) = lock.as_ref().ok().and_then(|_| self.read(key)) {
            return found.to_device(device);
        }
        let computed = compute();
        // What can't be written is computed again next time.
        let _ = self.write(key, &computed);
        computed
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name = hex(key);
        self.folder.join(&name[..2]).join(format!("{name}.{SUFFIX}"))
    }

    /// A file that is locked until it's dropped. It stays: a lock on a file that was removed would be nobody else's.
    fn lock(&self, name: &str) -> io::Result<File> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).to_owned();
        let file = options.open(self.folder.join(name))?;
        file.file().lock()?;
        Ok(file)
    }

    /// The entry, if it's there and whole.
    fn read(&self, key: &Key) -> Option<Tensor> {
        let path = self.path(key);
        let file = MappedFile::open(&path).ok()?;
        let tensor = decode(key, &file);
        match &tensor {
            // When it was used last.
            Some(_) => drop(std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()))),
            None => drop(std::fs::remove_file(&path)),
        }
        tensor
    }

    fn write(&self, key: &Key, tensor: &Tensor) -> io::Result<()> {
        let (path, bytes) = (self.path(key), encode(key, tensor)?);
        if !self.make_room(bytes.len() as u64)? {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        fs_err::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        // Whoever adds up the files sees its size from the beginning.
        file.as_file().set_len(bytes.len() as u64)?;
        file.write_all(&bytes)?;
        file.persist(&path)?;
        Ok(())
    }

    /// Counts `size` bytes more, once as much as need be was removed; false if they don't fit at all.
    fn make_room(&self, size: u64) -> io::Result<bool> {
        if size > self.budget {
            return Ok(false);
        }
        let mut file = self.lock("total")?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let total = match text.trim().parse::<u64>() {
            Ok(total) if total + size <= self.budget => total,
            // Some more, so that not every entry that comes has to look at all that are there.
            _ => self.remove_until((self.budget - size).min(self.budget / 10 * 9))?,
        };
        file.rewind()?;
        file.set_len(0)?;
        file.write_all((total + size).to_string().as_bytes())?;
        Ok(true)
    }

    /// Removes the entries that were used least recently, until the others take no more than `bytes`; how many they take.
    fn remove_until(&self, bytes: u64) -> io::Result<u64> {
        let mut entries = Vec::new();
        for folder in fs_err::read_dir(&self.folder)? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() || folder.file_name() == "locks" {
                continue;
            }
            for entry in fs_err::read_dir(folder.path())? {
                let entry = entry?;
                // It may have been removed since it was listed.
                let Ok(file) = entry.metadata() else { continue };
                let used = file.modified()?;
                let is_entry = entry.path().extension().is_some_and(|suffix| suffix == SUFFIX);
                let is_left = used.elapsed().is_ok_and(|age| age > LEFT_BEHIND);
                entries.push((is_entry || is_left, used, file.len(), entry.path()));
            }
        }
        entries.sort_by_key(|(_, used, ..)| *used);
        let mut total = entries.iter().map(|(_, _, size, _)| size).sum();
        for (_, _, size, path) in entries.iter().filter(|(is_removable, ..)| *is_removable) {
            if total <= bytes {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
        Ok(total)
    }
}

/// A file's bytes.
fn encode(key: &Key, tensor: &Tensor) -> io::Result<Vec<u8>> {
    let shape = tensor.size();
    let numbers = Vec::<f32>::try_from(tensor.reshape(-1)).map_err(io::Error::other)?;
    let mut bytes = vec![0; HEADER];
    bytes.reserve_exact(4 * numbers.len());
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&(shape.len() as u64).to_le_bytes());
    for dimension in 0..DIMENSIONS {
        let size = shape.get(dimension).copied().unwrap_or(1);
        bytes[16 + 8 * dimension..][..8].copy_from_slice(&size.to_le_bytes());
    }
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    let digest = digest(key, &bytes);
    bytes[DIGEST].copy_from_slice(&digest);
    Ok(bytes)
}

fn decode(key: &Key, file: &MappedFile) -> Option<Tensor> {
    let bytes = file.bytes();
    let number = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let shape = (0..DIMENSIONS).map(|dimension| number(16 + 8 * dimension)).collect::<Option<Vec<_>>>()?;
    let dimensions = usize::try_from(number(8)?).ok().filter(|count| *count <= DIMENSIONS)?;
    let numbers = shape.iter().try_fold(4_i64, |product, size| product.checked_mul(*size))?;
    let is_whole = bytes.len() > HEADER && numbers as usize == bytes.len() - HEADER && bytes.starts_with(MAGIC);
    (is_whole && digest(key, bytes)[..] == bytes[DIGEST]).then(|| file.floats(HEADER, &shape[..dimensions]))
}

/// Over the key and all of a file's bytes but the digest itself.
fn digest(key: &Key, bytes: &[u8]) -> Key {
    let mut digest = Sha256::new_with_prefix(key);
    digest.update(&bytes[..DIGEST.start]);
    digest.update(&bytes[DIGEST.end..]);
    digest.finalize().into()
}

/// A cache, seen from one loaded CLIP.
#[derive(Debug)]
pub(super) struct Frozen {
    cache: FrozenCache,
    /// Everything but the pixels that an entry's bits depend on.
    identity: String,
}

impl Frozen {
    /// For the backbone with an identity, computed on a device in a precision. Besides, bits depend on this program and the libtorch that
    /// it has loaded, on the processor and on the number of threads.
    pub(super) fn new(cache: FrozenCache, backbone: &str, device: Device, precision: Precision) -> Self {
        let of_file = |path: &Path| {
            let file = fs_err::metadata(path).ok();
            file.map(|file| (file.len(), file.modified().ok()))
        };
        // Also when another file lies at its path by now.
        let program = of_file(Path::new("/proc/self/exe"));
        let maps = fs_err::read_to_string("/proc/self/maps").unwrap_or_default();
        let library =
            maps.lines().filter_map(|line| line.split_once('/')).find(|(_, path)| path.ends_with("/libtorch_cpu.so"));
        let library = library.and_then(|(_, path)| of_file(&Path::new("/").join(path)));
        let switches = [
            "PROMPTFIELD_CPU_BF16",
            "ATEN_CPU_CAPABILITY",
            "MKL_CBWR",
            "MKL_ENABLE_INSTRUCTIONS",
            "ONEDNN_MAX_CPU_ISA",
        ];
        let switches = switches.map(std::env::var_os);
        let processor = processor(device);
        let threads = tch::get_num_threads();
        let identity =
            format!("{VERSION} {program:?} {library:?} {switches:?} {processor} {threads} {backbone} {precision}");
        Self { cache, identity }
    }

    /// What identifies pixels [B, 3, S, S] and all that their activations depend on.
    pub(super) fn digest(&self, images: &Tensor) -> Sha256 {
        let mut digest = Sha256::new();
        digest.update(format!("{} {:?} ", self.identity, images.size()));
        // An image at a time, so that no second batch is in memory.
        for index in 0..images.size()[0] {
            let pixels = Vec::<f32>::try_from(images.get(index).reshape(-1)).unwrap_or_default();
            let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            digest.update(&bytes);
            working::goes_on();
        }
        digest
    }

    /// The entry of the pixels with a digest, under a name.
    pub(super) fn get(&self, pixels: &Sha256, name: &str, device: Device, compute: impl FnOnce() -> Tensor) -> Tensor {
        let key = pixels.clone().chain_update(name).finalize().into();
        self.cache.get(&key, device, compute)
    }
}

/// What computes on a device.
fn processor(device: Device) -> String {
    match device {
        Device::Cuda(index) => {
            let gpus = fs_err::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
            let models = gpus.filter_map(|gpu| {
                let text = fs_err::read_to_string(gpu.path().join("information")).ok()?;
                Some(text.lines().find(|line| line.starts_with("Model:"))?.to_owned())
            });
            let mut models: Vec<String> = models.collect();
            models.sort_unstable();
            models.dedup();
            // GPUs of one model share entries; which of several models has this number isn't known.
            if models.len() == 1 { models.remove(0) } else { format!("{models:?} {index}") }
        }
        other => {
            let processors = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let line =
                |name: &str| processors.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            format!("{other:?} {} {}", line("model name"), line("flags"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use tch::Kind;

    fn tensor(first: f32) -> Tensor {
        Tensor::from_slice(&[first, -0.0, f32::MIN_POSITIVE, 4.5, 5.0, 6.0]).view([1, 2, 3])
    }

    fn never() -> Tensor {
        unreachable!("it was there")
    }

    /// The entries that are there.
    fn keys(cache: &FrozenCache, count: u8) -> Vec<u8> {
        (0..count).filter(|key| cache.path(&[*key; 32]).exists()).collect()
    }

    #[test]
    fn an_entry_is_computed_once_by_all_who_want_it_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let (computed, barrier) = (AtomicU32::new(0), Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = FrozenCache::open(folder.path(), 1 << 20).unwrap();
                    barrier.wait();
                    let got = cache.get(&[7; 32], Device::Cpu, || {
                        computed.fetch_add(1, Ordering::Relaxed);
                        tensor(1.0)
                    });
                    assert_eq!(got, tensor(1.0));
                });
            }
        });
        assert_eq!(computed.into_inner(), 1);
    }

    #[test]
    fn whatever_is_damaged_is_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FrozenCache::open(folder.path(), 1 << 20).unwrap();
        let (key, path) = ([7; 32], cache.path(&[7; 32]));
        let _ = cache.get(&key, Device::Cpu, || tensor(1.0));
        let whole = fs_err::read(&path).unwrap();
        assert_eq!(cache.get(&key, Device::Cpu, never), tensor(1.0));
        let mut damages: Vec<Vec<u8>> = [0, 20, 60, HEADER - 1, HEADER].map(|length| whole[..length].to_vec()).to_vec();
        damages.push([&whole[..], &[0; 4]].concat());
        damages.extend((0..whole.len()).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        }));
        for damage in damages {
            fs_err::write(&path, &damage).unwrap();
            assert_eq!(cache.get(&key, Device::Cpu, || tensor(2.0)), tensor(2.0), "{damage:?}");
            assert_eq!(cache.get(&key, Device::Cpu, never), tensor(2.0));
        }
        // Another entry's file in its place.
        fs_err::create_dir_all(cache.path(&[8; 32]).parent().unwrap()).unwrap();
        fs_err::copy(&path, cache.path(&[8; 32])).unwrap();
        assert_eq!(cache.get(&[8; 32], Device::Cpu, || tensor(3.0)), tensor(3.0));
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let size = encode(&[0; 32], &tensor(0.0)).unwrap().len() as u64;
        let cache = FrozenCache::open(folder.path(), 4 * size).unwrap();
        for key in 0..4 {
            let _ = cache.get(&[key; 32], Device::Cpu, || tensor(1.0));
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(key) + 1);
            std::fs::File::open(cache.path(&[key; 32])).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(keys(&cache, 5), [0, 1, 2, 3]);
        let _ = cache.get(&[0; 32], Device::Cpu, never);
        let _ = cache.get(&[4; 32], Device::Cpu, || tensor(1.0));
        assert_eq!(keys(&cache, 5), [0, 2, 3, 4]);

        // Also when the count is lost, and for a smaller budget; nothing larger is kept at all.
        fs_err::write(folder.path().join("total"), "?").unwrap();
        let smaller = FrozenCache::open(folder.path(), 2 * size).unwrap();
        let _ = smaller.get(&[5; 32], Device::Cpu, || tensor(1.0));
        assert_eq!(keys(&smaller, 6).len(), 2);
        let none = FrozenCache::open(folder.path(), size - 1).unwrap();
        assert_eq!(none.get(&[6; 32], Device::Cpu, || tensor(9.0)), tensor(9.0));
        assert!(!none.path(&[6; 32]).exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FrozenCache::open(&folder.path().join("cache"), 1 << 20).unwrap();
        fs_err::remove_dir_all(folder.path().join("cache")).unwrap();
        fs_err::write(folder.path().join("cache"), "").unwrap();
        assert_eq!(cache.get(&[1; 32], Device::Cpu, || tensor(1.0)), tensor(1.0));
    }

    #[test]
    fn a_key_depends_on_pixels_weights_precision_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FrozenCache::open(folder.path(), 1 << 20).unwrap();
        let images = |pixel: f32| Tensor::full([2, 3, 4, 4], f64::from(pixel), (Kind::Float, Device::Cpu));
        let digest = |weights: &str, precision, images: &Tensor| {
            let frozen = Frozen::new(cache.clone(), weights, Device::Cpu, precision);
            hex(&frozen.digest(images).finalize())
        };
        let base = digest("a", Precision::Fp32, &images(0.5));
        assert_eq!(base, digest("a", Precision::Fp32, &images(0.5)));
        for other in [
            digest("b", Precision::Fp32, &images(0.5)),
            digest("a", Precision::AmpFp16, &images(0.5)),
            digest("a", Precision::Tf32, &images(0.5)),
            digest("a", Precision::Fp32, &images(0.25)),
            digest("a", Precision::Fp32, &images(0.5).view([1, 6, 4, 4])),
        ] {
            assert_ne!(base, other);
        }
    }
}
