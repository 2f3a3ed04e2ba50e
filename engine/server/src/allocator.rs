//! The process's allocator and its settings for returning memory to the operating system.
//!
//! The memory budget counts allocated memory. An allocator that retains freed memory for reuse holds more than the
//! budget counts; tables of state are large and grow by doubling, so retained memory could double the total. Large
//! allocations therefore bypass the allocator's arenas: they come from the operating system and return to it when they
//! are freed. Batches of rows are smaller, and their memory is reused.
//!
//! RocksDB allocates from the C library's heap, which by default has one arena per thread and retains memory after
//! large blocks have been freed. `mallopt` limits both.
//!
//! Huge pages are disabled: the first allocations of every thread would use megabytes of them, an idle process would
//! need several times as much memory, and no measured query was faster with them.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_arena_max_object_size` of mimalloc 3, in KiB: the largest allocation that is made in an arena.
const ARENA_MAX_OBJECT_SIZE: c_int = 45;
/// Default of [`ARENA_MAX_OBJECT_SIZE`].
const DEFAULT_KIB: c_long = 2 << 20;
const LARGE_KIB: c_long = 2 << 10;
/// `mi_option_purge_delay`, in milliseconds: time for which an arena retains freed memory.
const PURGE_DELAY: c_int = 15;
const DEFAULT_MS: c_long = 1_000;
const SHORT_MS: c_long = 10;

/// Most arenas of the C library's heap, which few threads use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_ARENAS_MAX: c_int = 2;
/// Size from which the C library's heap maps each block separately. Unless set, it grows with the blocks that are
/// freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_MAPPED_BYTES_MIN: c_int = 256 << 10;
/// Free memory that the C library's heap retains at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const C_KEPT_BYTES: c_int = 1 << 20;

unsafe extern "C" {
    fn mi_option_get(option: c_int) -> c_long;
    fn mi_option_set(option: c_int, value: c_long);
    fn mi_collect(force: bool);
}

/// Runs before the first allocation, as memory that is in a huge page already stays there.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = without_huge_pages;

#[cfg(target_os = "linux")]
extern "C" fn without_huge_pages() {
    // SAFETY: changes how the kernel backs future memory of this process, not its content. A kernel without the option
    // returns an error and changes nothing.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Makes both heaps return large allocations to the operating system when they are freed. Call before state is
/// allocated.
pub fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, C_ARENAS_MAX),
        (libc::M_MMAP_THRESHOLD, C_MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, C_KEPT_BYTES),
    ] {
        // SAFETY: sets a parameter of later allocations; a refused value changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
    set(ARENA_MAX_OBJECT_SIZE, DEFAULT_KIB, LARGE_KIB);
}

/// Sets an option of the allocator if it has its default. Another value was set by the user, or the option's number has
/// another meaning in this version.
fn set(option: c_int, default: c_long, value: c_long) {
    // SAFETY: both access a table of numbers, which the allocator reads when it allocates and frees; an unknown option
    // is ignored.
    unsafe {
        if mi_option_get(option) == default {
            mi_option_set(option, value);
        }
    }
}

/// Returns memory that this process can do without: memory retained by the allocators, and code pages of the program,
/// many of which only the startup uses. Code pages that are used again are mapped again from the system's file cache.
pub fn release_memory() {
    // Retain freed memory for a shorter time from now on.
    set(PURGE_DELAY, DEFAULT_MS, SHORT_MS);
    // SAFETY: only returns free memory.
    unsafe { mi_collect(true) };
    release_startup_memory();
}

/// Returns memory that only the startup needed: code pages, a third of an idle process's memory, and memory retained by
/// the C heap.
pub fn release_startup_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the first only returns free memory. The second calls the function below with valid arguments; the data
    // pointer is not used.
    unsafe {
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(release_code_pages), std::ptr::null_mut());
    }
}

/// Releases the code pages of the first object, the program itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" fn release_code_pages(
    object: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    _data: *mut libc::c_void,
) -> c_int {
    // SAFETY: only reads a system parameter.
    let Ok(page_bytes @ 1..) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else {
        return 1;
    };
    // SAFETY: the loader passes a valid object with `dlpi_phnum` headers.
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
            // SAFETY: whole pages of a mapping of the program's file that is never written: they are read from the file
            // again.
            unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED) };
        }
    }
    // A value other than 0 ends the iteration.
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if a new version of the allocator has other numbers for its options.
    #[test]
    fn the_numbers_of_options_are_right() {
        configure();
        release_memory();
        for (option, value) in [(ARENA_MAX_OBJECT_SIZE, LARGE_KIB), (PURGE_DELAY, SHORT_MS)] {
            // SAFETY: as above.
            assert_eq!(unsafe { mi_option_get(option) }, value);
        }
    }
}
