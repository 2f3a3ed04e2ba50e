//! The process's allocator, and how it gives memory back.
//!
//! The memory budget counts what is held. An allocator that keeps what was freed, to hand it out again later, holds more
//! than the budget knows of; tables of state are large and grow by doubling, so that may be as much again. Large
//! allocations therefore bypass the allocator's arenas: they come from the operating system and go back to it when they
//! are freed. Batches of rows are smaller, and are reused as ever.
//!
//! Huge pages are not asked for: every thread's first allocations would hold megabytes of them, an idle process several
//! times what it needs, and no query measured was faster for them.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_arena_max_object_size` of mimalloc 3, in KiB: the largest allocation that is made in an arena.
const ARENA_MAX_OBJECT_SIZE: c_int = 45;
/// Its value unless someone has set it. An option of this number with another value is another option, or the user's.
const DEFAULT_KIB: c_long = 2 << 20;
const LARGE_KIB: c_long = 2 << 10;

unsafe extern "C" {
    fn mi_option_get(option: c_int) -> c_long;
    fn mi_option_set(option: c_int, value: c_long);
}

/// Runs before anything is allocated: what lies in a huge page by then stays there.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = without_huge_pages;

#[cfg(target_os = "linux")]
extern "C" fn without_huge_pages() {
    // SAFETY: changes how the kernel backs this process's memory from now on, not what is in it. A kernel that does not
    // know it answers an error, and nothing has changed.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Lets large allocations go back to the operating system as soon as they are freed. To be called before state is held.
pub fn give_large_allocations_back() {
    // SAFETY: both are plain accesses to a table of numbers, which the allocator reads at each allocation; an unknown
    // option is ignored.
    unsafe {
        if mi_option_get(ARENA_MAX_OBJECT_SIZE) == DEFAULT_KIB {
            mi_option_set(ARENA_MAX_OBJECT_SIZE, LARGE_KIB);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a new version of the allocator numbers its options otherwise.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        give_large_allocations_back();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(ARENA_MAX_OBJECT_SIZE) }, LARGE_KIB);
    }
}
