//! The thread pool behind a compiled model's `parallel_for`.
//!
//! Each thread has a block of neighbouring tasks, and a word with the number of those that are unclaimed; a thread whose own block
//! is done goes on with the others'. Tasks are rows or samples, so what a thread wrote in one job it mostly reads itself in the
//! next: fetching it from another core's cache costs more than a small layer's arithmetic. Whoever lowers a word by one owns a
//! task, so a thread that comes late either finds 0 or claims a task of the current job, never of a finished one: the job's
//! fields change only when no task is outstanding. The caller takes part as worker 0; the others spin about 30 µs after their
//! last task and then sleep.
//!
//! What a thread must know of a job lies on one cache line of its own, as each line costs a journey between the cores. Nothing
//! else that the caller writes for every job is on a line that a worker reads, and the count of finished tasks, which workers
//! write last, is not reset before the next job.
#![allow(unsafe_code)]

use crate::abi;
use std::any::Any;
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps.
const SPIN: Duration = Duration::from_micros(30);
/// Stack of a worker; tasks need 512 KiB (`dorefac.h`).
const STACK: usize = 1 << 20;

thread_local! {
    /// The worker index of the task that this thread runs, if any.
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start thread {index} of {threads}: {source}; use fewer threads")]
pub struct PoolError {
    index: u32,
    threads: u32,
    source: std::io::Error,
}

/// On cache lines of its own, as cores fetch them: two at a time.
#[repr(align(128))]
struct Apart<T>(T);

/// A thread's tasks of the current job.
#[derive(Default)]
struct Block {
    /// Tasks nobody has claimed.
    unclaimed: AtomicU64,
    /// The first task behind them.
    end: AtomicU64,
    task: AtomicPtr<c_void>,
    data: AtomicPtr<c_void>,
    /// Counts jobs: what the thread looks at while it is idle.
    jobs: AtomicU64,
}

/// What the threads share.
struct Shared {
    /// One a thread.
    blocks: Vec<Apart<Block>>,
    /// Tasks that workers have finished, of all jobs; the caller counts its own.
    finished: Apart<AtomicU64>,
    /// Whether a job is running.
    busy: Apart<AtomicBool>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

/// A fixed set of threads that run the tasks of one job at a time.
pub struct Pool {
    shared: Arc<Shared>,
    threads: u32,
    handles: Vec<JoinHandle<()>>,
}

impl Shared {
    /// Claims and runs tasks until none is left, those of the worker's own block first; tells how many it has done of a block.
    fn work(&self, worker: u32, mut tell: impl FnMut(u64)) {
        let own = worker as usize;
        for Apart(block) in self.blocks.iter().skip(own).chain(self.blocks.iter().take(own)) {
            let mut done = 0;
            let mut left = block.unclaimed.load(Ordering::Acquire);
            while left != 0 {
                match block.unclaimed.compare_exchange_weak(left, left - 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        let i = block.end.load(Ordering::Relaxed) - left;
                        let task = block.task.load(Ordering::Relaxed);
                        let data = block.data.load(Ordering::Relaxed);
                        // SAFETY: `task` was stored from an `abi::Task` before `unclaimed` was published (release), which the
                        // successful exchange acquired; the job stays until this task is counted as finished.
                        unsafe { run_one(std::mem::transmute::<*mut c_void, abi::Task>(task), data, i, worker) };
                        done += 1;
                        left = block.unclaimed.load(Ordering::Acquire);
                    }
                    Err(now) => left = now,
                }
            }
            if done != 0 {
                tell(done);
            }
        }
    }

    /// A worker's life.
    fn serve(&self, worker: u32) {
        let Some(Apart(Block { jobs, .. })) = self.blocks.get(worker as usize) else { return };
        loop {
            let seen = jobs.load(Ordering::Acquire);
            self.work(worker, |done| {
                self.finished.0.fetch_add(done, Ordering::Release);
            });
            let idle = Instant::now();
            // A pause takes 20 to 40 ns, so each is followed by a look; the clock is asked now and then. An exchange, as claiming
            // a task does, fetches the line to write it: reading it first would fetch it twice.
            let waits = |_: &u32| jobs.compare_exchange(seen, seen, Ordering::Acquire, Ordering::Acquire).is_ok();
            while (0..16).take_while(waits).map(|_| std::hint::spin_loop()).count() == 16 && idle.elapsed() < SPIN {}
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if jobs.load(Ordering::Acquire) == seen {
                let mut guard = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while jobs.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
                    guard = self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Gives each thread its block of `n` tasks, the caller its own last.
    fn publish(&self, task: abi::Task, data: *mut c_void, n: u64) {
        let threads = self.blocks.len() as u128;
        // No more than `n`.
        let start = |block: usize| (u128::from(n) * block as u128 / threads.max(1)) as u64;
        for (i, Apart(block)) in self.blocks.iter().enumerate().rev() {
            block.end.store(start(i + 1), Ordering::Relaxed);
            block.task.store(task as *mut c_void, Ordering::Relaxed);
            block.data.store(data, Ordering::Relaxed);
            block.unclaimed.store(start(i + 1) - start(i), Ordering::Release);
            // Nobody else writes it.
            block.jobs.store(block.jobs.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
        // A thread that is about to sleep sees the job, or the caller sees it asleep.
        fence(Ordering::SeqCst);
    }

    /// Runs a job; the caller is worker 0.
    unsafe fn run(&self, task: abi::Task, data: *mut c_void, n: u64, threads: u32) {
        let nested = CURRENT.get();
        if n <= 1 || threads <= 1 || nested.is_some() || self.busy.0.swap(true, Ordering::Acquire) {
            let worker = nested.unwrap_or(0);
            for i in 0..n {
                // SAFETY: the caller's contract.
                unsafe { run_one(task, data, i, worker) };
            }
            return;
        }
        let before = self.finished.0.load(Ordering::Relaxed);
        self.publish(task, data, n);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            let _guard = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.notify_all();
        }
        let mut others = n;
        self.work(0, |done| others -= done);
        let mut spins = 0u32;
        while self.finished.0.load(Ordering::Acquire).wrapping_sub(before) != others {
            spins = spins.saturating_add(1);
            if spins < 2000 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        self.busy.0.store(false, Ordering::Release);
    }
}

/// Runs one task with this thread marked as inside a task.
unsafe fn run_one(task: abi::Task, data: *mut c_void, i: u64, worker: u32) {
    let outer = CURRENT.replace(Some(worker));
    // SAFETY: the caller's contract: a task of the interface, called once for each index.
    unsafe { task(data, i, worker) };
    CURRENT.set(outer);
}

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 takes as many as the machine offers.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: u32) -> Result<Self, PoolError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            n => n,
        };
        let shared = Arc::new(Shared {
            blocks: (0..threads.max(1)).map(|_| Apart(Block::default())).collect(),
            finished: Apart(AtomicU64::new(0)),
            busy: Apart(AtomicBool::new(false)),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            door: Mutex::new(()),
            bell: Condvar::new(),
        });
        let mut pool = Pool { shared, threads, handles: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let started = std::thread::Builder::new()
                .name(format!("dorefa-{index}"))
                .stack_size(STACK)
                .spawn(move || shared.serve(index))
                .map_err(|source| PoolError { index, threads, source })?;
            pool.handles.push(started);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Calls `body(i, worker)` exactly once for each `i < n`. A worker index is never used by two calls at once; a
    /// nested call runs serially. A panic in `body` is passed on after all tasks have ended.
    pub fn for_each(&self, n: u64, body: &(dyn Fn(u64, u32) + Sync)) {
        struct Context<'a> {
            body: &'a (dyn Fn(u64, u32) + Sync),
            panic: Mutex<Option<Box<dyn Any + Send>>>,
        }
        unsafe extern "C" fn task(data: *mut c_void, i: u64, worker: u32) {
            // SAFETY: `data` is the context below, which outlives the job and is only shared.
            let context = unsafe { &*data.cast::<Context<'_>>() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (context.body)(i, worker))) {
                *context.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        let context = Context { body, panic: Mutex::new(None) };
        let data = (&raw const context).cast_mut().cast::<c_void>();
        // SAFETY: `run` returns after all tasks; the context is shared only, and `body` is Sync.
        unsafe { self.shared.run(task, data, n, self.threads) };
        if let Some(panic) = context.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// The pool as the `pool` argument of a call; valid while `self` lives.
    pub(crate) fn as_context(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = self.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.bell.notify_all();
        }
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

/// `dorefac_parallel_for` over a [`Pool`].
///
/// # Safety
/// `pool` is a [`Pool`] that outlives the call; `task` may be called with `data` as the interface says.
pub(crate) unsafe extern "C" fn parallel_for(pool: *mut c_void, task: abi::Task, data: *mut c_void, n: u64) {
    // SAFETY: the caller's contract; the pool is only shared.
    let pool = unsafe { &*pool.cast::<Pool>() };
    // SAFETY: the caller's contract.
    unsafe { pool.shared.run(task, data, n, pool.threads) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once_and_workers_alone() {
        for threads in 1..=4 {
            let pool = Pool::new(threads).unwrap();
            let in_use: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
            for round in 0..300u64 {
                let n = round % 37;
                let seen: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
                pool.for_each(n, &|i, w| {
                    assert!(!in_use[w as usize].swap(true, Ordering::SeqCst));
                    seen[i as usize].fetch_add(1, Ordering::Relaxed);
                    in_use[w as usize].store(false, Ordering::SeqCst);
                });
                assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1));
                if round % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(1)); // let the workers fall asleep
                }
            }
        }
    }

    #[test]
    fn nested_calls_are_serial() {
        let pool = Pool::new(3).unwrap();
        let count = AtomicU64::new(0);
        pool.for_each(8, &|_, w| {
            pool.for_each(5, &|_, inner| {
                assert_eq!(w, inner);
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        assert_eq!(count.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| pool.for_each(4, &|i, _| assert!(i != 2, "task 2"))));
        assert!(caught.is_err());
        let count = AtomicU64::new(0);
        pool.for_each(100, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 100);
    }
}
