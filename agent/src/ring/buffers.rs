//! One BPF ring buffer per CPU.

use aya::maps::{ArrayOfMaps, Map, MapData, MapError, RingBuf};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use fragscope_ebpf::record::Record;
use fragscope_ebpf::side::SideRecord;
use fragscope_trace::page::CpuId;

/// Bytes of a record in a BPF ring buffer: its own and the kernel's header.
const SLOT_BYTES: u64 = size_of::<Record>() as u64 + 8;

/// The reader of the ring buffers, by CPU.
pub struct BufferRings {
    buffers: Vec<RingBuf<MapData>>,
    bytes: u32,
    /// Held because programs that are loaded later refer to its descriptor.
    _outer: ArrayOfMaps<MapData, RingBuf<MapData>>,
}

impl std::fmt::Debug for BufferRings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferRings({} of {} bytes)", self.buffers.len(), self.bytes)
    }
}

impl BufferRings {
    /// Makes a ring buffer of `bytes` (a power of two of pages) for each of `cpus`, and enters it
    /// in `outer`, the programs' map `RING_BUFFERS`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(outer: Map, cpus: u32, bytes: u32) -> Result<BufferRings, MapError> {
        let mut outer = ArrayOfMaps::<MapData, RingBuf<MapData>>::try_from(outer)?;
        let mut buffers = Vec::new();
        for cpu in 0..cpus {
            let kind = BPF_MAP_TYPE_RINGBUF as u32;
            let definition = aya_obj::Map::new_from_params(kind, 0, 0, bytes, 0);
            let data = MapData::create(definition, "ring", None)?;
            let buffer = RingBuf::try_from(Map::from_map_data(data)?)?;
            outer.set(cpu, &buffer, 0)?;
            buffers.push(buffer);
        }
        Ok(BufferRings { buffers, bytes, _outer: outer })
    }

    /// See [`super::Channel::drain`].
    pub fn drain(&mut self, take: &mut impl FnMut(CpuId, Record)) -> u32 {
        let mut peak = 0;
        for (cpu, buffer) in self.buffers.iter_mut().enumerate() {
            let mut taken = 0;
            // A busy producer must not keep the reader at one ring for ever.
            let most = u64::from(self.bytes) / SLOT_BYTES;
            while taken < most {
                let Some(item) = buffer.next() else { break };
                if let Some(record) = record_of(&item) {
                    take(CpuId(cpu as u16), record);
                }
                taken += 1;
            }
            peak = peak.max(taken);
        }
        (peak * SLOT_BYTES * 1000 / u64::from(self.bytes)) as u32
    }
}

/// The record in the bytes of an item. Items of another length do not occur: both sides share the
/// layout.
fn record_of(bytes: &[u8]) -> Option<Record> {
    let (when, what) = (word(bytes, 0)?, word(bytes, 8)?);
    Some(Record { when, what })
}

/// The rare event in the bytes of an item.
#[must_use]
pub fn side_of(bytes: &[u8]) -> Option<SideRecord> {
    let kind_cpu = word(bytes, 8)?;
    let mut side = SideRecord {
        time_ns: word(bytes, 0)?,
        kind: kind_cpu as u32,
        cpu: (kind_cpu >> 32) as u32,
        words: Default::default(),
    };
    for (i, to) in side.words.iter_mut().enumerate() {
        *to = word(bytes, 16 + 8 * i)?;
    }
    Some(side)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_record_is_read_back() {
        let mut bytes = Vec::new();
        for word in [7u64, 5 | 3 << 32, 1, 2, 3, 4, 5, 6, 7] {
            bytes.extend(word.to_le_bytes());
        }
        let words = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(side_of(&bytes), Some(SideRecord { time_ns: 7, kind: 5, cpu: 3, words }));
        assert_eq!(side_of(&bytes[..71]), None);
    }
}
