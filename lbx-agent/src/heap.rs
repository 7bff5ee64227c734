//! What the process holds of memory without using it.

/// Gives memory back that a large piece of work has left free. The allocator keeps most of it: it is in small pieces
/// between what stays (`malloc_trim(3)`; other libraries than glibc have no such call).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, the bytes to keep at the end of the heap, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
