//! Faults planted for the sanitizers: where these tests pass, no sanitizer was watching, and a clean run proves
//! nothing.
//!
//! Unsafe code, which pollmark has in its back ends alone, is the point here. Nothing of this is part of any product.

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::hint::black_box;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn use_after_free() {
        let freed = {
            let boxed = Box::new(black_box(7_u64));
            &raw const *boxed
        };
        // SAFETY: none. The box is gone.
        black_box(unsafe { freed.read() });
    }

    #[test]
    fn leak() {
        black_box(vec![7_u64; 1_000]).leak();
    }

    struct Shared(UnsafeCell<u64>);

    // SAFETY: none. Nothing orders the writes below.
    unsafe impl Sync for Shared {}

    #[test]
    fn race() {
        let (shared, here) = (Shared(UnsafeCell::new(0)), AtomicUsize::new(0));
        let write = || {
            let shared = &shared;
            here.fetch_add(1, Ordering::Relaxed);
            while here.load(Ordering::Relaxed) < 2 {
                thread::yield_now(); // relaxed, so that the two meet and are not ordered by it
            }
            // Often, because of two accesses in the same instant the sanitizer may see neither.
            for _ in 0..1_000 {
                // SAFETY: none. Both write.
                unsafe { *shared.0.get() += 1 };
            }
        };
        thread::scope(|scope| {
            scope.spawn(write);
            scope.spawn(write);
        });
    }
}
