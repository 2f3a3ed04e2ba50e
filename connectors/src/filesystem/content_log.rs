//! A log of the content of files that stay open across checkpoints.
//!
//! An open file is not visible, yet a checkpoint must hold its rows. So at each checkpoint the content added since the
//! last one is written as one segment to the job's checkpoint storage, and a committable names, for each open file, the
//! chunks of segments that make up its content ([`LoggedFiles`]). As long as the writer lives, nobody reads the log:
//! the writer goes on with the file itself. When the job is restored, `recovery` writes the files anew from the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow_ipc::writer::StreamWriter;
use tokio::runtime::Handle;

use super::logged_files::{Chunk, LoggedFile, LoggedFiles};
use super::open_file::Payload;
use super::part_file::{self, FinalName};
use crate::{Committable, Error, OutputFile, OutputStorage, WriterContext};

/// Bytes of content that one writer holds for the next segment. Beyond it the file with most of them is no longer
/// logged and is closed at the next checkpoint: it is not small.
const UNLOGGED_BYTES_MAX: usize = 32 << 20;
/// Segments that the open files of one writer refer to. Beyond it the file with the oldest chunk is closed.
const SEGMENTS_MAX: usize = 1_000;
/// Chunks of all open files of one writer, all of which every checkpoint names. Beyond it as with segments.
const CHUNKS_MAX: usize = 8_192;

/// The log of one writer.
pub(super) struct ContentLog {
    storage: Arc<dyn OutputStorage>,
    runtime: Handle,
    in_progress_suffix: String,
    /// Content of open files, by partition folder.
    contents: HashMap<String, Content>,
    /// Segments that a checkpoint may name, by number.
    segments: BTreeMap<u64, OutputFile>,
    next_segment: u64,
    unlogged_bytes: usize,
}

/// Content of one open file.
struct Content {
    name: FinalName,
    chunks: Vec<Chunk>,
    unlogged: Vec<Payload>,
    unlogged_bytes: usize,
    /// True once content was dropped: the file must be closed at the next checkpoint.
    is_incomplete: bool,
}

impl ContentLog {
    /// Creates the log of a writer without open files.
    pub(super) fn new(context: &WriterContext) -> Self {
        Self {
            storage: context.storage.clone(),
            runtime: context.runtime.clone(),
            in_progress_suffix: part_file::in_progress_suffix(&context.job),
            contents: HashMap::new(),
            segments: BTreeMap::new(),
            next_segment: 0,
            unlogged_bytes: 0,
        }
    }

    /// Begins the log of a new file.
    pub(super) fn open(&mut self, folder: &str, name: FinalName) {
        let content = Content {
            name,
            chunks: Vec::new(),
            unlogged: Vec::new(),
            unlogged_bytes: 0,
            is_incomplete: false,
        };
        self.contents.insert(folder.to_string(), content);
    }

    /// Appends what was written to an open file.
    pub(super) fn append(&mut self, folder: &str, payload: Payload) {
        let Some(content) = self.contents.get_mut(folder).filter(|content| !content.is_incomplete) else {
            return;
        };
        let bytes = payload.bytes();
        content.unlogged.push(payload);
        content.unlogged_bytes += bytes;
        self.unlogged_bytes += bytes;
        if self.unlogged_bytes > UNLOGGED_BYTES_MAX
            && let Some(largest) = self.contents.values_mut().max_by_key(|content| content.unlogged_bytes)
        {
            self.unlogged_bytes -= largest.unlogged_bytes;
            largest.unlogged.clear();
            largest.unlogged_bytes = 0;
            largest.is_incomplete = true;
        }
    }

    /// Forgets a file that is closed.
    pub(super) fn close(&mut self, folder: &str) {
        if let Some(content) = self.contents.remove(folder) {
            self.unlogged_bytes -= content.unlogged_bytes;
        }
    }

    /// Returns the folder of a file that must be closed before the next segment is written, if there is one.
    pub(super) fn must_close(&self) -> Option<String> {
        let incomplete = self.contents.iter().find(|(_, content)| content.is_incomplete);
        if let Some((folder, _)) = incomplete {
            return Some(folder.clone());
        }
        let chunks: usize = self.contents.values().map(|content| content.chunks.len()).sum();
        if self.live_segments().len() < SEGMENTS_MAX && chunks + self.contents.len() <= CHUNKS_MAX {
            return None;
        }
        let logged = self.contents.iter().filter_map(|(folder, content)| {
            let first = content.chunks.first()?;
            Some((first.segment, folder))
        });
        logged.min().map(|(_, folder)| folder.clone())
    }

    fn live_segments(&self) -> BTreeSet<u64> {
        let chunks = self.contents.values().flat_map(|content| &content.chunks);
        chunks.map(|chunk| chunk.segment).collect()
    }

    /// Writes what was appended since the last call as a segment, and returns the committable of all open files.
    pub(super) fn write_segment(&mut self) -> Result<Option<Committable>, Error> {
        let mut segment = Vec::with_capacity(self.unlogged_bytes);
        for content in self.contents.values_mut() {
            let offset = segment.len();
            encode(&content.unlogged, &mut segment)?;
            content.unlogged.clear();
            content.unlogged_bytes = 0;
            if segment.len() > offset {
                content.chunks.push(Chunk {
                    segment: self.next_segment,
                    offset: offset as u64,
                    length: (segment.len() - offset) as u64,
                });
            }
        }
        self.unlogged_bytes = 0;
        if !segment.is_empty() {
            let stored = self.runtime.block_on(self.storage.write(segment.into()))?;
            self.segments.insert(self.next_segment, stored);
            self.next_segment += 1;
        }
        let live = self.live_segments();
        self.segments.retain(|number, _| live.contains(number));
        let logged = self.contents.values().filter(|content| !content.chunks.is_empty());
        let files = logged.map(|content| LoggedFile {
            name: content.name.clone(),
            chunks: content.chunks.clone(),
        });
        let logged = LoggedFiles {
            in_progress_suffix: self.in_progress_suffix.clone(),
            files: files.collect(),
            segments: self.segments.clone(),
        };
        match logged.files.is_empty() {
            true => Ok(None),
            false => logged.encode().map(Some),
        }
    }
}

/// Appends payloads to a segment: encoded records as they are, rows as one Arrow IPC stream.
fn encode(payloads: &[Payload], segment: &mut Vec<u8>) -> Result<(), Error> {
    let mut rows = Vec::new();
    for payload in payloads {
        match payload {
            Payload::Bytes(records) => segment.extend_from_slice(records),
            Payload::Rows(batch) => rows.push(batch),
        }
    }
    if let Some(first) = rows.first() {
        let mut writer = StreamWriter::try_new(segment, &first.schema())?;
        rows.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
    }
    Ok(())
}
