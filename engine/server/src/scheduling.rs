//! The time slice that the process asks of the operating system's scheduler.
//!
//! A row is handed over between several threads: of the Kafka client, of slots and of sinks. Beside busy processes each
//! of them waits for a processor after it is woken. Linux (from 6.12 on) runs a woken thread the sooner the shorter its
//! time slice is; its share of the processor remains the same. The default is a few milliseconds.

/// The shortest time slice that Linux accepts, in nanoseconds.
#[cfg(target_os = "linux")]
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of Linux, in its first version.
#[cfg(target_os = "linux")]
#[repr(C)]
#[derive(Default)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Requests a short time slice for this thread and the threads that it starts. Must be called before other threads are
/// started. Without an effect on older kernels, and for policies other than the default one, which somebody has chosen.
#[cfg(target_os = "linux")]
pub(crate) fn request_short_slices() {
    const SIZE: u32 = size_of::<SchedulingAttributes>() as u32;
    let mut attributes = SchedulingAttributes::default();
    // SAFETY: the kernel writes at most `SIZE` bytes to the attributes, which live during the call; 0 is this thread.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) };
    if known != 0 || attributes.policy != libc::SCHED_OTHER as u32 {
        return;
    }
    attributes.size = SIZE;
    attributes.runtime = SLICE_NS;
    // The policy, the nice value and the flags stay. A refusal leaves the default slice, which is a matter of latency
    // only.
    // SAFETY: the kernel reads `size` bytes of the attributes, which live during the call.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Does nothing: only Linux has this setting.
#[cfg(not(target_os = "linux"))]
pub(crate) fn request_short_slices() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn policy_and_nice_value_stay() {
        let attributes = || {
            let mut attributes = SchedulingAttributes::default();
            let size = size_of::<SchedulingAttributes>();
            // SAFETY: the kernel writes at most `size` bytes to the attributes, which live during the call.
            let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
            assert_eq!(known, 0);
            attributes
        };
        let before = attributes();
        request_short_slices();
        let after = attributes();
        assert_eq!((after.policy, after.nice), (before.policy, before.nice));
        // Kernels before 6.12 report no slice.
        assert!(after.runtime == SLICE_NS || after.runtime == before.runtime);
        let inherited = std::thread::scope(|scope| scope.spawn(|| attributes().runtime).join());
        assert_eq!(inherited.ok(), Some(after.runtime));
    }
}
