//! Reading of kernel memory through the BPF program that copies it on demand.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _};
use aya::{Ebpf, EbpfError, EbpfLoader};
use fragscope_ebpf::probe::{CHUNK_BYTES, COPY_RC, CPU_SLOT};
use fragscope_trace::page::CpuId;
use thiserror::Error;

use crate::bpf::memory::MapMemory;
use crate::object;

/// Why kernel memory cannot be read at all.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The object was refused.
    #[error("the probe programs can't be loaded: {0}")]
    Load(#[from] EbpfError),
    /// A program was refused, or cannot be run on demand (Linux 5.10 and later can).
    #[error("a probe program can't be run: {0}")]
    Program(#[from] ProgramError),
    /// A map cannot be used.
    #[error("a map of the probe programs can't be used: {0}")]
    Map(#[from] MapError),
    /// The chunk cannot be mapped.
    #[error("the copied chunk can't be mapped: {0}")]
    Mmap(std::io::Error),
}

/// Why one read gave nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    /// No memory is mapped there, or not all of it.
    #[error("kernel memory at {address:#x} can't be read (errno {errno})")]
    Unmapped {
        /// Where the read began.
        address: u64,
        /// The helper's error, positive.
        errno: i64,
    },
    /// The program could not be run.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// `None` where no memory is mapped: the address was a guess.
pub(crate) fn mapped<T>(read: Result<T, ReadError>) -> Result<Option<T>, KernelError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Unmapped { .. }) => Ok(None),
        Err(ReadError::Kernel(error)) => Err(error),
    }
}

/// A source of kernel memory; tests have another than the program.
pub(crate) trait ReadKernel {
    /// Copies `bytes` (a multiple of 8, at most [`CHUNK_BYTES`]) from `address`. The words stay
    /// valid until the next call.
    fn read(&mut self, address: u64, bytes: usize) -> Result<&[AtomicU64], ReadError>;

    /// Copies a small structure.
    fn read_struct(&mut self, address: u64, bytes: u64) -> Result<Bytes, ReadError> {
        let len = (bytes as usize).next_multiple_of(8);
        let words = self.read(address, len)?;
        Ok(Bytes(words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect()))
    }
}

/// A copied structure.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// The little-endian number of `size` bytes (at most 8) at `offset`; 0 outside.
    pub(crate) fn number(&self, offset: u64, size: u64) -> u64 {
        let from = offset as usize;
        let bytes = self.0.get(from..from + size.min(8) as usize).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// The word at `offset`.
    pub(crate) fn word(&self, offset: u64) -> u64 {
        self.number(offset, 8)
    }
}

/// The loaded program and its map.
#[derive(Debug)]
pub struct KernelMemory {
    ebpf: Ebpf,
    chunk: MapMemory,
}

impl KernelMemory {
    /// Loads the programs. None of them is attached to anything.
    ///
    /// # Errors
    /// [`KernelError`]; without the rights for BPF it is `Load` or `Program`.
    pub fn open() -> Result<KernelMemory, KernelError> {
        crate::bpf::raise_memlock_limit();
        let mut ebpf = EbpfLoader::new().load(object::probe())?;
        for name in ["copy_pages", "locate_cpu"] {
            program(&mut ebpf, name)?.load()?;
        }
        let chunk = match map(&ebpf, "CHUNK")? {
            Map::Array(data) => MapMemory::new(data.fd(), CHUNK_BYTES),
            _ => return Err(no_map("CHUNK").into()),
        };
        Ok(KernelMemory { ebpf, chunk: chunk.map_err(KernelError::Mmap)? })
    }

    /// Address of `cpu`'s element of a per-CPU map. Two CPUs' addresses differ as their per-CPU
    /// offsets do.
    ///
    /// # Errors
    /// If the program cannot be run on that CPU.
    pub(crate) fn per_cpu_address(&mut self, cpu: CpuId) -> Result<u64, KernelError> {
        let mut options = RawTracePointRunOptions::new();
        options.cpu = Some(u32::from(cpu.0));
        program(&mut self.ebpf, "locate_cpu")?.test_run(options)?;
        Ok(self.slots()?.get(&CPU_SLOT, 0)?)
    }

    fn slots(&self) -> Result<Array<&MapData, u64>, KernelError> {
        Ok(Array::try_from(map(&self.ebpf, "PROBE")?)?)
    }
}

impl ReadKernel for KernelMemory {
    fn read(&mut self, address: u64, bytes: usize) -> Result<&[AtomicU64], ReadError> {
        debug_assert!(bytes > 0 && bytes <= CHUNK_BYTES && bytes.is_multiple_of(8));
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&[address, bytes as u64]);
        let run = program(&mut self.ebpf, "copy_pages").and_then(|p| p.test_run(options));
        run.map_err(KernelError::from)?;
        match self.slots()?.get(&COPY_RC, 0).map_err(KernelError::from)? as i64 {
            0 => Ok(self.chunk.words(0, bytes / 8)),
            rc => Err(ReadError::Unmapped { address, errno: -rc }),
        }
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map, MapError> {
    ebpf.map(name).ok_or_else(|| no_map(name))
}

fn no_map(name: &str) -> MapError {
    MapError::InvalidName { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_bounded() {
        let bytes = Bytes(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(bytes.number(1, 2), 0x0302);
        assert_eq!(bytes.word(0), 0x0807_0605_0403_0201);
        assert_eq!((bytes.word(2), bytes.number(100, 4)), (0, 0));
    }
}
