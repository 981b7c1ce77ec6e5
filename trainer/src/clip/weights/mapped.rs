//! A file mapped into memory, and tensors that lie in it.
//!
//! The mapping is private and only read: processes that map the same file share the memory, and libtorch unmaps it when the
//! last tensor in it is gone. Whoever changes the file in place changes the tensors, or ends the process by shortening it: a
//! weights file is to be replaced by renaming another one over it.

use std::fs::Metadata;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use fs_err::File;
use sha2::{Digest as _, Sha256};
use tch::{Device, Kind, Tensor};

use super::Stored;
use crate::working;

#[derive(Debug)]
pub(in crate::clip) struct MappedFile {
    /// The file's bytes.
    mapping: Tensor,
    /// The same bytes, to be read without getting into this process's memory.
    file: File,
}

impl MappedFile {
    /// Maps a whole file.
    pub(in crate::clip) fn open(path: &Path) -> io::Result<Self> {
        // What is no file is refused before it's opened: to open a pipe waits for whoever writes into it.
        if !fs_err::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let options = (Kind::Uint8, Device::Cpu);
        // An empty file can't be mapped.
        if metadata.len() == 0 {
            return Ok(Self { mapping: Tensor::zeros(0, options), file });
        }
        // libtorch opens files by name; this one stands for the file that is open, whatever has been renamed over it.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mapping = Tensor::f_from_file(&name, false, metadata.len() as i64, options).map_err(io::Error::other)?;
        Ok(Self { mapping, file })
    }

    /// What the file system says of the file.
    pub(in crate::clip) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// SHA-256 of the file.
    pub(in crate::clip) fn sha256(&self) -> io::Result<[u8; 32]> {
        let (mut file, mut digest, mut buffer) = (&self.file, Sha256::new(), vec![0; 1 << 20]);
        file.rewind()?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(digest.finalize().into()),
                length => digest.update(&buffer[..length]),
            }
            working::goes_on();
        }
    }

    /// Bytes that are in no file.
    #[cfg(test)]
    pub(super) fn in_memory(bytes: &[u8]) -> Self {
        Self { mapping: Tensor::from_slice(bytes), file: File::from_parts(tempfile::tempfile().unwrap(), "memory") }
    }

    pub(in crate::clip) fn bytes(&self) -> &[u8] {
        let (start, length) = (self.mapping.data_ptr().cast::<u8>(), self.mapping.numel());
        if length == 0 {
            return &[];
        }
        // SAFETY: the tensor is one run of `length` bytes, lives as long as the slice, and nothing in this program writes to
        // it or to tensors that lie in it. That nobody else shortens the file is relied on, as said above.
        #[expect(unsafe_code, reason = "tensors offer their numbers only by copying them or by address")]
        unsafe {
            std::slice::from_raw_parts(start, length)
        }
    }

    /// A copy of the 32-bit floats that begin at `start`, a multiple of their width.
    pub(in crate::clip) fn floats(&self, start: usize, shape: &[i64]) -> Tensor {
        let length = Kind::Float.elt_size_in_bytes() as i64 * shape.iter().product::<i64>();
        self.mapping.narrow(0, start as i64, length).view_dtype(Kind::Float).view(shape).copy()
    }

    /// A tensor that was found in [`MappedFile::bytes`]. It lies in the mapping, unless it stands at a place where its
    /// numbers can't be read, which is not a multiple of their width, or has gaps between them; then it's a copy.
    pub(super) fn tensor(&self, stored: &Stored) -> Tensor {
        let width = stored.kind.elt_size_in_bytes();
        let start = stored.data.as_ptr().addr() - self.bytes().as_ptr().addr();
        let bytes = self.mapping.narrow(0, start as i64, stored.data.len() as i64);
        let bytes = if start.is_multiple_of(width) { bytes } else { bytes.copy() };
        let numbers = bytes.view_dtype(stored.kind);
        match &stored.strides {
            None => numbers.view(stored.shape.as_slice()),
            Some(strides) => numbers.as_strided(&stored.shape, strides, None).contiguous(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored<'a>(data: &'a [u8], shape: &[i64], strides: Option<&[i64]>) -> Stored<'a> {
        Stored { kind: Kind::Float, data, shape: shape.to_vec(), strides: strides.map(<[i64]>::to_vec) }
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape(-1)).unwrap()
    }

    #[test]
    fn tensors_lie_in_the_file_and_outlive_who_opened_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let numbers: Vec<u8> = (0..6_u8).flat_map(|number| f32::from(number).to_le_bytes()).collect();
        // The second half begins at an odd place.
        fs_err::write(file.path(), [&numbers[..], &[0], &numbers[..]].concat()).unwrap();
        let mapped = MappedFile::open(file.path()).unwrap();
        let bytes = mapped.bytes();
        let lies_inside = |tensor: &Tensor| bytes.as_ptr_range().contains(&tensor.data_ptr().cast_const().cast::<u8>());

        let plain = mapped.tensor(&stored(&bytes[..24], &[2, 3], None));
        let last = mapped.tensor(&stored(&bytes[20..24], &[], None));
        let odd = mapped.tensor(&stored(&bytes[25..49], &[3, 2], None));
        let transposed = mapped.tensor(&stored(&bytes[..24], &[3, 2], Some(&[1, 3])));
        let contiguous = mapped.tensor(&stored(&bytes[..24], &[2, 3], Some(&[3, 1])));
        let inside = [&plain, &last, &odd, &transposed, &contiguous].map(lies_inside);
        assert_eq!(inside, [true, true, false, false, true]);

        assert_eq!(mapped.sha256().unwrap()[..], Sha256::digest(bytes)[..]);
        drop(mapped);
        fs_err::remove_file(file.path()).unwrap();
        assert_eq!(values(&plain), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((values(&last), last.size()), (vec![5.0], vec![]));
        assert_eq!((values(&odd), odd.size()), (values(&plain), vec![3, 2]));
        assert_eq!((values(&transposed), transposed.size()), (vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0], vec![3, 2]));
        assert_eq!(contiguous, plain);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(MappedFile::open(folder.path()).unwrap_err().to_string(), "not a regular file");
        let path = folder.path().join("weights");
        assert_eq!(MappedFile::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs_err::write(&path, "").unwrap();
        assert!(MappedFile::open(&path).unwrap().bytes().is_empty());
    }
}
