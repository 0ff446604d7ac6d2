//! The lengths that compressed buffers of an Arrow IPC file give themselves, looked at before the library believes
//! them.
//!
//! A compressed buffer starts with eight bytes: its length once decompressed. The library makes room for that length
//! before it decompresses anything, and the process ends where there is no such room: one damaged byte would be the end
//! of a run. Here every such length is held against what its codec can make of the bytes there are, and against memory.
//! Only messages and these lengths are read, not the data. What else is wrong with a file is left for the library to
//! say.

use ::arrow::error::ArrowError;
use ::arrow::ipc::{Block, CompressionType, MessageHeader, RecordBatch, root_as_footer, root_as_message};
use std::io::{Read, Result, Seek, SeekFrom};

/// What a byte of LZ4 can become at the very most: a match grows by 255 per byte.
const LZ4_RATIO: u64 = 255;
/// And one of Zstandard: a block of 128 KiB of one value takes four bytes.
const ZSTD_RATIO: u64 = 1 << 15;
/// A frame of a few bytes has a whole block in it.
const BLOCK: u64 = 1 << 22;

/// Refuses a file or stream with a buffer that says it is longer than it can be.
pub(crate) fn check(file: &mut (impl Read + Seek), is_stream: bool) -> std::result::Result<(), ArrowError> {
    let walked = if is_stream { stream(file) } else { blocks(file) };
    // An unreadable message is the library's to name; a length that cannot be is ours.
    walked.unwrap_or_default().map_or(Ok(()), |words| Err(ArrowError::IpcError(words)))
}

/// What is wrong with a length, if anything is.
type Wrong = Option<String>;

/// The messages of a file, which its footer names.
fn blocks(file: &mut (impl Read + Seek)) -> Result<Wrong> {
    let size = file.seek(SeekFrom::End(0))?;
    let end: [u8; 10] = take(file, size.saturating_sub(10), 10, size)?.try_into().unwrap_or_default();
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let footer = take(file, size.saturating_sub(10 + length), length, size)?;
    let Ok(footer) = root_as_footer(&footer) else { return Ok(None) };
    let lists = [footer.dictionaries(), footer.recordBatches()];
    for block in lists.into_iter().flatten().flatten() {
        // A block that cannot be read does not hide those after it.
        if let Ok(Some(wrong)) = one_block(file, block, size) {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

fn one_block(file: &mut (impl Read + Seek), block: &Block, size: u64) -> Result<Wrong> {
    let (start, length) = (unsigned(block.offset()), unsigned(block.metaDataLength().into()));
    let bytes = take(file, start, length, size)?;
    // Before version 0.15 there was no marker before the length.
    let message = bytes.get(if bytes.starts_with(&[0xFF; 4]) { 8 } else { 4 }..).unwrap_or_default();
    Ok(message_at(file, message, start.saturating_add(length), size))
}

/// The messages of a stream, one after the other.
fn stream(file: &mut (impl Read + Seek)) -> Result<Wrong> {
    let size = file.seek(SeekFrom::End(0))?;
    let mut start = 0;
    while let Ok(head) = take(file, start, 8, size) {
        let marked = head.starts_with(&[0xFF; 4]);
        let at = if marked { 4 } else { 0 };
        let length = u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let message_start = start + at as u64 + 4;
        if length == 0 {
            break;
        }
        let message = take(file, message_start, length, size)?;
        let Ok(parsed) = root_as_message(&message) else { break };
        let body = message_start.saturating_add(length);
        if let Some(wrong) = message_at(file, &message, body, size) {
            return Ok(Some(wrong));
        }
        start = body.saturating_add(unsigned(parsed.bodyLength()));
    }
    Ok(None)
}

/// The buffers of one message, whose body starts at `body`.
fn message_at(file: &mut (impl Read + Seek), message: &[u8], body: u64, size: u64) -> Wrong {
    let message = root_as_message(message).ok()?;
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => message.header_as_record_batch(),
    };
    batch.and_then(|batch| batch_at(file, &batch, body, size))
}

fn batch_at(file: &mut (impl Read + Seek), batch: &RecordBatch<'_>, body: u64, size: u64) -> Wrong {
    let compression = batch.compression()?;
    let ratio = if compression.codec() == CompressionType::ZSTD { ZSTD_RATIO } else { LZ4_RATIO };
    for buffer in batch.buffers().into_iter().flatten() {
        let (offset, length) = (body.saturating_add(unsigned(buffer.offset())), unsigned(buffer.length()));
        let Some(compressed) = length.checked_sub(8) else { continue };
        let Ok(prefix) = take(file, offset, 8, size) else { continue };
        // -1 is a buffer left as it was; what else is below zero the library refuses.
        let declared = i64::from_le_bytes(prefix.try_into().unwrap_or_default());
        let Ok(declared) = u64::try_from(declared) else { continue };
        if declared > compressed.saturating_mul(ratio).saturating_add(BLOCK) || !has_room(declared) {
            return Some(format!("a compressed buffer of {compressed} bytes says it holds {declared}"));
        }
    }
    None
}

/// Whether memory of this size can be had: it is asked for and not touched.
fn has_room(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

/// Offsets and lengths are signed in the format; one below zero is damage, and is beyond the end of any file.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// `length` bytes from `start`, of a file of `size` bytes.
fn take(file: &mut (impl Read + Seek), start: u64, length: u64, size: u64) -> Result<Vec<u8>> {
    if start.checked_add(length).is_none_or(|end| end > size) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::arrow::array::{ArrayRef, StringArray};
    use ::arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    use std::io::Cursor;
    use std::sync::Arc;

    fn written(codec: CompressionType, is_stream: bool) -> Vec<u8> {
        let text: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..5000).map(|_| "the same text again")));
        let batch = ::arrow::array::RecordBatch::try_from_iter([("text", text)]).expect("a batch");
        let options = IpcWriteOptions::default().try_with_compression(Some(codec)).expect("a codec");
        let mut bytes = Vec::new();
        if is_stream {
            let writer = StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options);
            writer.and_then(|mut to| to.write(&batch).and_then(|()| to.finish())).expect("written");
        } else {
            let writer = FileWriter::try_new_with_options(&mut bytes, &batch.schema(), options);
            writer.and_then(|mut to| to.write(&batch).and_then(|()| to.finish())).expect("written");
        }
        bytes
    }

    /// 5,000 texts of 19 bytes: two buffers of (5,000 + 1) * 4 and 95,000 bytes.
    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let frames = [
            (CompressionType::LZ4_FRAME, [4, 0x22, 0x4D, 0x18]),
            (CompressionType::ZSTD, [0x28, 0xB5, 0x2F, 0xFD]),
        ];
        for (codec, magic) in frames {
            for is_stream in [false, true] {
                let whole = written(codec, is_stream);
                check(&mut Cursor::new(&whole), is_stream).expect("what was written is fine");
                let mut found = 0;
                for length in [20_004_i64, 95_000] {
                    let start = [&length.to_le_bytes()[..], &magic].concat();
                    let at = whole.windows(12).position(|bytes| bytes == start);
                    let Some(at) = at else { continue };
                    found += 1;
                    let mut damaged = whole.clone();
                    damaged[at + 6] = 0x1C;
                    let says = check(&mut Cursor::new(&damaged), is_stream).expect_err("refused").to_string();
                    let declared = length + (0x1C << 48);
                    assert!(says.ends_with(&format!("bytes says it holds {declared}")), "{says}");
                }
                // LZ4 does not make the offsets shorter: they are stored as they are.
                assert_eq!(
                    found,
                    if codec == CompressionType::ZSTD { 2 } else { 1 },
                    "{codec:?} {is_stream}"
                );
            }
        }
    }
}
