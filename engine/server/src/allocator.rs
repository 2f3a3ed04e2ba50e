//! The process's allocator, and how it gives memory back.
//!
//! The memory budget counts what is held. An allocator that keeps what was freed, to hand it out again later, holds more
//! than the budget knows of; tables of state are large and grow by doubling, so that may be as much again. Large
//! allocations therefore bypass the allocator's arenas: they come from the operating system and go back to it when they
//! are freed. Batches of rows are smaller, and are reused as ever.
//!
//! RocksDB allocates from the C library's heap, which keeps as much as it ever held once large blocks have come and gone,
//! in one arena per thread. It is told not to.
//!
//! Huge pages are not asked for: every thread's first allocations would hold megabytes of them, an idle process several
//! times what it needs, and no query measured was faster for them.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_arena_max_object_size` of mimalloc 3, in KiB: the largest allocation that is made in an arena.
const ARENA_MAX_OBJECT_SIZE: c_int = 45;
/// Its value unless someone has set it.
const DEFAULT_KIB: c_long = 2 << 20;
const LARGE_KIB: c_long = 2 << 10;
/// `mi_option_purge_delay`, in milliseconds: how long an arena keeps what was freed.
const PURGE_DELAY: c_int = 15;
const DEFAULT_MS: c_long = 1_000;
const SHORT_MS: c_long = 10;

/// Arenas of the C library's heap: the threads that use it are few.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_ARENAS_MAX: c_int = 2;
/// Blocks of the C library's heap from this size on are mapped one by one. Unless it is set, it rises to whatever is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_MAPPED_BYTES_MIN: c_int = 256 << 10;
/// What the C library's heap keeps at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_KEPT_BYTES: c_int = 1 << 20;

unsafe extern "C" {
    fn mi_option_get(option: c_int) -> c_long;
    fn mi_option_set(option: c_int, value: c_long);
    fn mi_collect(force: bool);
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
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, C_ARENAS_MAX),
        (libc::M_MMAP_THRESHOLD, C_MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, C_KEPT_BYTES),
    ] {
        // SAFETY: sets a number that later allocations go by. What is refused stays as it was.
        unsafe { libc::mallopt(parameter, value) };
    }
    set(ARENA_MAX_OBJECT_SIZE, DEFAULT_KIB, LARGE_KIB);
}

/// Sets an option of the allocator that has this value, else somebody has set it, or it is another one.
fn set(option: c_int, default: c_long, value: c_long) {
    // SAFETY: both are plain accesses to a table of numbers, which the allocator reads when it allocates and frees; an
    // unknown option is ignored.
    unsafe {
        if mi_option_get(option) == default {
            mi_option_set(option, value);
        }
    }
}

/// Gives back what this process can do without: what the allocators keep, and the program's own pages, of which a start
/// needs many that nothing needs later. Those that are needed are mapped again when they are run; they are in the system's
/// file cache.
pub fn let_go() {
    // Memory is short from now on.
    set(PURGE_DELAY, DEFAULT_MS, SHORT_MS);
    // SAFETY: gives free memory back, nothing else.
    unsafe { mi_collect(true) };
    let_go_of_the_start();
}

/// Gives back what only the start needed: the program's pages, a third of what an idle process holds, and what the C heap
/// keeps.
pub fn let_go_of_the_start() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the first gives free memory back. The other calls the function below with what it expects, and its data is
    // not used.
    unsafe {
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(let_go_program), std::ptr::null_mut());
    }
}

/// Unmaps the pages of the program's code. Only the first object, the program itself, is asked for.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" fn let_go_program(
    object: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    _data: *mut libc::c_void,
) -> c_int {
    // SAFETY: asks for a number.
    let Ok(page_bytes @ 1..) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else {
        return 1;
    };
    // SAFETY: the loader gives a valid object, with as many headers as it says.
    let (object, headers) = unsafe {
        let object = &*object;
        (
            object,
            std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)),
        )
    };
    let code = headers.iter().filter(|header| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 && header.p_flags & libc::PF_W == 0
    });
    for header in code {
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        let first = start.next_multiple_of(page_bytes);
        let last = (start + header.p_memsz as usize) / page_bytes * page_bytes;
        if first < last {
            // SAFETY: whole pages of a mapping of the program's file that is never written to: they read the same again.
            unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED) };
        }
    }
    // Not 0: no further object.
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a new version of the allocator numbers its options otherwise.
    #[test]
    fn the_options_are_those_that_are_meant() {
        give_large_allocations_back();
        let_go();
        for (option, value) in [(ARENA_MAX_OBJECT_SIZE, LARGE_KIB), (PURGE_DELAY, SHORT_MS)] {
            // SAFETY: as above.
            assert_eq!(unsafe { mi_option_get(option) }, value);
        }
    }
}
