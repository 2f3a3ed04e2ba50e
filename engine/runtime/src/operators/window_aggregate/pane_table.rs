//! The groups of one slice in memory, the changes that are not in the store yet, and the way to write them.

use std::sync::Arc;

use crate::Error;
use crate::operators::keyed_state::{Segment, block_rows};
use crate::operators::table::{Table, TableSpec};
use crate::operators::window_panes::PaneState;

/// Dirty groups of the segments to rewrite, divided by this, are at least needed to write a pane as blocks.
const BLOCKS_DIRTY_DIVISOR: usize = 4;
/// A pane that was written as blocks is written as rows if this many checkpoints like the present one would cost more
/// as blocks than all of it costs as rows, once.
const BLOCKS_CHECKPOINTS_MIN: usize = 8;
/// Blocks are laid out anew once they have this many times the bytes that blocks should have.
const BLOCK_GROWTH_MAX: usize = 4;
/// Cost of a row of its own, in bytes, beyond its cost in a block.
const ROW_OVERHEAD_BYTES: usize = 256;

/// The groups of a slice.
pub(crate) struct PaneTable {
    /// Groups and their accumulators.
    pub table: Table,
    /// Groups that have changed since they were last written.
    pub dirty: DirtyGroups,
    /// The form in which groups have been written.
    pub layout: StoredLayout,
    /// Epoch under which the table is written, the same as long as the table lives: a group that is written again
    /// replaces its former row or block.
    pub epoch: u32,
}

/// The form in which a table that stays in memory has been written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredLayout {
    /// This number of groups, from the first on, as rows. Later changes of these groups must replace the rows.
    Rows(usize),
    /// All groups, in blocks of this number of rows. Changes replace whole segments.
    Blocks(usize),
}

/// Groups that differ from their state in the store.
pub(crate) enum DirtyGroups {
    All,
    Listed { marks: Vec<bool>, groups: Vec<u32> },
}

/// The way in which a checkpoint treats a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointAction {
    /// Nothing has changed.
    Skip,
    WriteRows,
    WriteBlocks,
    Evict,
}

impl DirtyGroups {
    /// Returns the empty set, for a table of this many groups.
    pub(crate) fn none(group_count: usize) -> Self {
        Self::Listed {
            marks: vec![false; group_count],
            groups: Vec::new(),
        }
    }

    /// Returns the number of dirty groups of a table with `group_count` groups.
    fn count(&self, group_count: usize) -> usize {
        match self {
            Self::All => group_count,
            Self::Listed { groups, .. } => groups.len(),
        }
    }

    /// Returns the segments of `segment_groups` groups that have dirty ones, of a table with `group_count` groups.
    pub(crate) fn segments(&self, segment_groups: usize, group_count: usize) -> Vec<Segment> {
        let segment = |number: usize| Segment {
            number: number as u32,
            groups: number * segment_groups..group_count.min((number + 1) * segment_groups),
        };
        let all = 0..group_count.div_ceil(segment_groups);
        match self {
            Self::All => all.map(segment).collect(),
            Self::Listed { marks, .. } => {
                let segments = marks.chunks(segment_groups).enumerate();
                let dirty = segments.filter(|(_, marks)| marks.contains(&true));
                dirty.map(|(number, _)| segment(number)).collect()
            }
        }
    }

    /// Marks groups of a table with `group_count` groups as dirty.
    pub(crate) fn mark(&mut self, touched: &[u32], group_count: usize) {
        let Self::Listed { marks, groups } = self else {
            return;
        };
        marks.resize(group_count, false);
        for group in touched {
            let mark = &mut marks[*group as usize];
            if !*mark {
                *mark = true;
                groups.push(*group);
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Listed { marks, groups } => marks.capacity() + groups.capacity() * size_of::<u32>(),
        }
    }
}

impl PaneTable {
    /// Creates an empty table, to be written under this epoch.
    pub(crate) fn new(spec: &Arc<TableSpec>, epoch: u32) -> Result<Self, Error> {
        Ok(Self {
            table: Table::new(spec)?,
            dirty: DirtyGroups::All,
            layout: StoredLayout::Rows(0),
            epoch,
        })
    }

    /// Returns the cheapest way to write the changes. `is_stored` is true if the store has other rows of the slice.
    pub(crate) fn checkpoint_action(&self, is_stored: bool, segment_groups: usize) -> CheckpointAction {
        let groups = self.table.len();
        let dirty = self.dirty.count(groups);
        let segments = self.dirty.segments(segment_groups, groups);
        let rewritten: usize = segments.iter().map(|segment| segment.groups.len()).sum();
        // Where groups are large, blocks of whole segments cost more than rows of the dirty groups.
        let group_bytes = self.table.size() / groups.max(1);
        let is_cheaper = rewritten * group_bytes <= dirty * (group_bytes + ROW_OVERHEAD_BYTES);
        let prefers_blocks = dirty * BLOCKS_DIRTY_DIVISOR >= rewritten && is_cheaper;
        let tolerates_blocks =
            rewritten * group_bytes * BLOCKS_CHECKPOINTS_MIN <= groups * (group_bytes + ROW_OVERHEAD_BYTES);
        match self.layout {
            _ if dirty == 0 => CheckpointAction::Skip,
            StoredLayout::Rows(0) | StoredLayout::Blocks(_) if prefers_blocks => CheckpointAction::WriteBlocks,
            StoredLayout::Blocks(_) if tolerates_blocks => CheckpointAction::WriteBlocks,
            // Its blocks cannot be deleted without the other rows of the slice. It will fire from the store anyway.
            StoredLayout::Blocks(_) if is_stored => CheckpointAction::Evict,
            StoredLayout::Rows(_) | StoredLayout::Blocks(_) => CheckpointAction::WriteRows,
        }
    }

    /// Returns true if groups have become much larger since their blocks were laid out.
    pub(crate) fn has_outgrown_blocks(&self) -> bool {
        match self.layout {
            StoredLayout::Blocks(rows) => block_rows(&self.table) * BLOCK_GROWTH_MAX < rows,
            StoredLayout::Rows(_) => false,
        }
    }

    /// Estimates the bytes of the copy that an action makes.
    pub(crate) fn copy_bytes(&self, action: CheckpointAction, segment_groups: usize) -> usize {
        let groups = self.table.len();
        let copied = match (action, self.layout) {
            (CheckpointAction::WriteRows, StoredLayout::Rows(_)) => self.dirty.count(groups),
            (CheckpointAction::WriteBlocks, _) => {
                let segments = self.dirty.segments(segment_groups, groups);
                segments.iter().map(|segment| segment.groups.len()).sum()
            }
            _ => groups,
        };
        (self.table.size() / groups.max(1)) * copied
    }
}

impl PaneState for PaneTable {
    fn size(&self) -> usize {
        self.table.size() + self.dirty.size()
    }

    fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
