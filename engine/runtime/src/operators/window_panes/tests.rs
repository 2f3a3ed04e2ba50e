use super::*;
use crate::operators::testing::{context, on_own_thread};

/// Stands for the bytes that a state holds.
struct Bytes(usize);

impl PaneState for Bytes {
    fn size(&self) -> usize {
        self.0
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

fn panes(memory_bytes: usize) -> WindowPanes<Bytes> {
    let (panes, number) = WindowPanes::restore(context(memory_bytes), 1, |_: u32| Ok(Bytes(0))).unwrap();
    assert_eq!(number, None, "nothing was restored");
    panes
}

#[test]
fn memory_is_accounted_for_by_every_change() {
    on_own_thread(|| {
        let mut panes = panes(usize::MAX);
        panes.get_or_insert_with(10, || Ok(Bytes(3))).unwrap().state.0 += 4;
        panes.get_or_insert_with(20, || Ok(Bytes(5))).unwrap();
        assert_eq!(panes.size(), 12);
        panes.get_mut(20).unwrap().state.0 = 1;
        assert_eq!(panes.size(), 8);
        assert_eq!(panes.evict(10, || Ok(Bytes(0))).unwrap().unwrap().0, 7);
        assert_eq!(panes.size(), 1);
        assert!(panes.any_stored([10, 20]) && !panes.any_stored([20]));
        assert!(panes.evict(10, || Ok(Bytes(0))).unwrap().is_none(), "nothing is left");
        panes.remove(20);
        assert_eq!((panes.size(), panes.ends().collect::<Vec<_>>()), (0, vec![10]));
    });
}

#[test]
fn the_largest_panes_are_evicted_until_half_of_the_memory_is_released() {
    on_own_thread(|| {
        let mut panes = panes(1_000);
        for (end, bytes) in [(10, 100), (20, 700), (30, 0), (40, 500), (50, 200)] {
            panes.get_or_insert_with(end, || Ok(Bytes(bytes))).unwrap();
        }
        let PaneMemory::Evict(ends) = panes.request_memory(0, 0).unwrap() else {
            panic!("1,500 of 1,000 bytes cannot be granted");
        };
        assert_eq!(ends, [20, 40]);
        for end in ends {
            panes.evict(end, || Ok(Bytes(0))).unwrap();
        }
        assert!(matches!(panes.request_memory(0, 0).unwrap(), PaneMemory::Granted));
    });
}

#[test]
fn a_restore_takes_the_slowest_time_and_the_greatest_number() {
    on_own_thread(|| {
        let inline = |fired: i64, number: u32| {
            let mut panes = panes(usize::MAX);
            panes.set_fired(fired);
            panes.snapshot(1, number, 7).unwrap().inline
        };
        let mut context = context(usize::MAX);
        context.restored_inline = vec![inline(50, 3), Vec::new(), inline(40, 9), inline(60, 4)];
        let (panes, number) = WindowPanes::restore(context, 7, |_: u32| Ok(Bytes(0))).unwrap();
        assert_eq!((panes.fired(), panes.complete(), number), (40, 40, Some(9)));
    });
}
