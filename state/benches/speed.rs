//! Speed of the parts of the state layer on one core: `cargo bench -p millstream-state`.
#![allow(clippy::unwrap_used, reason = "a panic is a failed benchmark")]

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::DataType;
use millstream_state::key_group::{KeyGroup, KeyGroupRange};
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};
use millstream_state::store::{Backend, BackendOptions, FlushSource, KeyPrefix, Store, WriteChunk};
use millstream_state::{Codec, Error, hash_columns};

const BATCH_ROWS: usize = 8192;

fn main() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..BATCH_ROWS as i64));
    let strings: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..BATCH_ROWS).map(|row| format!("https://example.org/{row}")),
    ));
    let mut hashes = Vec::new();
    measure("hash i64", 2000, || {
        hash_columns(std::slice::from_ref(&numbers), &mut hashes).unwrap()
    });
    measure("hash string (24 bytes)", 2000, || {
        hash_columns(std::slice::from_ref(&strings), &mut hashes).unwrap()
    });
    let columns = [numbers.clone(), strings, numbers];
    let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
    for (name, codec) in [
        ("keys", Codec::keys(&types).unwrap()),
        ("values", Codec::values(&types).unwrap()),
    ] {
        let rows = codec.encode(&columns).unwrap();
        measure(&format!("encode {name} (i64, string, i64)"), 200, || {
            drop(codec.encode(&columns).unwrap())
        });
        measure(&format!("decode {name} (i64, string, i64)"), 200, || {
            drop(codec.decode(rows.iter()).unwrap())
        });
    }
    for (keys, value_columns) in [(4_000, 2), (1_000_000, 11)] {
        table_hits(keys, value_columns);
    }
    let folder = std::env::temp_dir().join(format!("millstream-speed-{}", std::process::id()));
    let options = BackendOptions {
        dir: folder.clone(),
        memory_bytes: 256 << 20,
        process_gauge: None,
        background_threads: 1,
    };
    let backend = Backend::new(options).expect("a folder for the database");
    let mut store = backend.store("speed-0", KeyGroupRange { start: 0, end: 128 });
    for (name, rows) in [("small", 100_000u32), ("large", 2_000_000)] {
        let start = Instant::now();
        store
            .write(Box::new(Rows { next: 0, end: rows }), None)
            .expect("the store accepts a generation");
        settle(&mut store);
        report(
            &format!("write a {name} sorted generation (100-byte values)"),
            rows as usize,
            start,
        );
    }
    let start = Instant::now();
    let mut rows = 0;
    let mut after: Option<Vec<u8>> = None;
    let mut more = true;
    while more {
        let from = after.take();
        more = store
            .scan(SLOT, from.as_deref(), BATCH_ROWS, &mut |key, _| {
                rows += 1;
                let last = after.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            })
            .expect("the store is settled");
    }
    report("scan", rows, start);
    let keys: Vec<[u8; 8]> = (0..100_000u64).map(|row| (row * 19).to_be_bytes()).collect();
    let asked: Vec<(KeyPrefix, &[u8])> = keys.iter().map(|key| (SLOT, key.as_slice())).collect();
    let start = Instant::now();
    store.get_many(&asked).expect("the store is settled");
    report("get_many", asked.len(), start);
    drop(store);
    drop(backend);
    std::fs::remove_dir_all(folder).expect("the folder is ours");
}

const SLOT: KeyPrefix = KeyPrefix {
    group: KeyGroup(1),
    namespace: 7,
};

struct Rows {
    next: u32,
    end: u32,
}

impl FlushSource for Rows {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        if self.next == self.end {
            return Ok(None);
        }
        let mut chunk = WriteChunk::default();
        while chunk.bytes() < 1 << 20 && self.next < self.end {
            chunk.put(SLOT, &u64::from(self.next).to_be_bytes(), &[self.next as u8; 100]);
            self.next += 1;
        }
        Ok(Some(chunk))
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Updates of a value by key, of keys that are in memory, in random order.
fn table_hits(keys: u64, value_columns: usize) {
    let layout = Layout::new(&[DataType::Int64], &vec![DataType::Int64; value_columns]).unwrap();
    let mut table = Table::new(TableOptions {
        layout,
        collection: 0,
        hashed: 1,
        max_parallelism: 128,
        is_ordered: false,
        is_expiring: false,
    })
    .unwrap();
    // A permutation of the keys.
    let mut next = 0_u64;
    let mut batch = || -> ArrayRef {
        let numbers = (0..BATCH_ROWS).map(|_| {
            next += 1;
            (next.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as i64 % keys as i64
        });
        Arc::new(Int64Array::from_iter_values(numbers))
    };
    let batches: Vec<ArrayRef> = (0..512).map(|_| batch()).collect();
    let mut resolved = Resolved::default();
    let mut update = |table: &mut Table, keys: &ArrayRef| {
        table
            .resolve(std::slice::from_ref(keys), BATCH_ROWS, &mut resolved)
            .unwrap();
        for slot in &resolved.slots {
            let sum = i64::from_le_bytes(table.fixed(*slot, 0));
            table.set_fixed(*slot, 0, (sum + 1).to_le_bytes());
        }
        for slot in &resolved.distinct {
            table.set_changed(*slot);
        }
        table.release(&resolved);
    };
    batches.iter().for_each(|keys| update(&mut table, keys));
    let mut turn = 0;
    measure(
        &format!(
            "update by key, {} keys of {} bytes in memory",
            table.len(),
            8 * (1 + value_columns)
        ),
        512,
        || {
            update(&mut table, &batches[turn % batches.len()]);
            turn += 1;
        },
    );
}

fn settle(store: &mut Store) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while !store.poll_idle(&waker).expect("the disk takes it") {
        std::thread::park();
    }
}

fn measure(name: &str, times: usize, mut work: impl FnMut()) {
    work();
    let start = Instant::now();
    for _ in 0..times {
        work();
    }
    report(name, times * BATCH_ROWS, start);
}

fn report(name: &str, rows: usize, start: Instant) {
    println!(
        "{name:50} {:8.2} M rows/s",
        rows as f64 / start.elapsed().as_secs_f64() / 1e6
    );
}
