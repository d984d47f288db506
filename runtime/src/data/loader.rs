//! The batches of an epoch, made on background threads.
//!
//! What a batch holds follows from the set, the options and (epoch, batch) alone: the order is a permutation drawn from
//! (seed, epoch), the changes of a picture from (seed, epoch, its index). So the number of threads changes nothing, and a run
//! resumes at any batch. Thread t of T makes batches t, t + T, …, into a queue of its own; the reader takes the queues in
//! turn, so nothing need be reordered and no thread runs far ahead.

use super::{DataError, DataSet, Pixels, Transform, random};
use crate::tensor::{Data, Tensor};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Batches that wait in a thread's queue.
const AHEAD: usize = 2;
/// Tells the order's hash from the pictures'.
const ORDER: u64 = 0x04d3_2000;
/// Tells the pictures' hash from the order's.
const PICTURE: u64 = 0x91c7_2000;

/// Some pictures (N, C, H, W) and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The pictures: floats, or bytes where [`super::Normalise::raw`] asks for such and the set has bytes.
    pub x: Tensor,
    /// The labels.
    pub labels: Vec<i32>,
}

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Pictures in a batch; at least 1.
    pub batch: usize,
    /// Background threads; at least 1.
    pub threads: usize,
    /// Of the order and the augmentation.
    pub seed: u64,
    /// Training: a new random order each epoch, and the random changes of the transform. Otherwise the set's order, unchanged.
    pub train: bool,
    /// Leave the last batch out where it would be smaller.
    pub drop_last: bool,
    /// From pictures to inputs.
    pub transform: Transform,
}

impl Default for LoaderOptions {
    /// Evaluation in batches of 128 by one thread.
    fn default() -> Self {
        LoaderOptions {
            batch: 128,
            threads: 1,
            seed: 0,
            train: false,
            drop_last: false,
            transform: Transform::default(),
        }
    }
}

/// A data set in batches.
pub struct Loader {
    set: Arc<dyn DataSet>,
    options: Arc<LoaderOptions>,
}

impl Loader {
    /// The batches of `set`.
    pub fn new(set: Arc<dyn DataSet>, mut options: LoaderOptions) -> Self {
        options.batch = options.batch.max(1);
        options.threads = options.threads.max(1);
        Loader { set, options: Arc::new(options) }
    }

    /// The set.
    pub fn set(&self) -> &Arc<dyn DataSet> {
        &self.set
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        let (n, batch) = (self.set.len(), self.options.batch);
        if self.options.drop_last { n / batch } else { n.div_ceil(batch) }
    }

    /// Pictures in an epoch: all, without the last partial batch where it is dropped.
    pub fn images(&self) -> usize {
        self.set.len().min(self.batches().saturating_mul(self.options.batch))
    }

    /// The batches of epoch `epoch` from batch `first` on. Threads start now and end with the iterator.
    pub fn epoch(&self, epoch: u64, first: usize) -> Epoch {
        let seed = self.options.seed;
        let order: Arc<[usize]> = if self.options.train {
            random::permutation(self.set.len(), random::key(&[ORDER, seed, epoch])).into()
        } else {
            (0..self.set.len()).collect()
        };
        let last = self.batches();
        let threads = self.options.threads.min(last.saturating_sub(first));
        let mut made = Epoch { queues: Vec::new(), threads: Vec::new(), next: first, first, last };
        for t in 0..threads {
            let (send, queue) = sync_channel(AHEAD);
            let (set, options, order) = (self.set.clone(), self.options.clone(), order.clone());
            let work = move || {
                for b in (first + t..last).step_by(threads) {
                    let indices = order.get(b * options.batch..).unwrap_or_default();
                    let indices = indices.get(..options.batch).unwrap_or(indices);
                    let batch = gather(&*set, indices, &options, epoch);
                    let failed = batch.is_err();
                    // An error from `send`: the reader has gone.
                    if send.send(batch).is_err() || failed {
                        return;
                    }
                }
            };
            match Builder::new().name(format!("loader {t}")).spawn(work) {
                Ok(thread) => {
                    made.threads.push(thread);
                    made.queues.push(queue);
                }
                Err(e) => {
                    let (send, queue) = sync_channel(1);
                    let _ = send.send(Err(DataError::Thread(format!("cannot start ({e})"))));
                    made.queues.push(queue);
                }
            }
        }
        made
    }
}

/// The pictures at `indices`, in that order.
fn gather(set: &dyn DataSet, indices: &[usize], options: &LoaderOptions, epoch: u64) -> Result<Batch, DataError> {
    let transform = &options.transform;
    let (mut values, mut labels, mut shape) = (Vec::new(), Vec::with_capacity(indices.len()), None);
    let mut bytes = transform.normalise.raw;
    for &i in indices {
        let picture = set.image(i)?;
        bytes &= matches!(picture.pixels, Pixels::U8(_));
        let key = options.train.then(|| random::key(&[PICTURE, options.seed, epoch, i as u64]));
        let [c, h, w] = transform.apply(&picture, key, &mut values).map_err(|e| DataError::picture(set, i, e))?;
        let [fc, fh, fw] = *shape.get_or_insert([c, h, w]);
        if [c, h, w] != [fc, fh, fw] {
            let problem = format!(
                "the picture is {c}×{h}×{w} (channels × height × width), others are {fc}×{fh}×{fw}; make them equal, or ask for resizing (--resize)"
            );
            return Err(DataError::picture(set, i, problem));
        }
        let label = set.label(i).and_then(|l| i32::try_from(l).ok());
        labels.push(label.ok_or_else(|| DataError::picture(set, i, "its label is no number below 2³¹; correct it"))?);
    }
    let [c, h, w] = shape.unwrap_or_default();
    let data = if bytes {
        Data::U8(values.into_iter().map(|v| v.round_ties_even() as u8).collect())
    } else {
        Data::F32(values)
    };
    let x = Tensor::new([labels.len(), c, h, w], data);
    x.map(|x| Batch { x, labels }).map_err(|e| DataError::Unfit(format!("the data set breaks its own shape: {e}")))
}

/// The batches of one epoch, in order. After an error it ends.
pub struct Epoch {
    queues: Vec<Receiver<Result<Batch, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    first: usize,
    next: usize,
    last: usize,
}

impl Epoch {
    /// The place in the epoch of the batch that comes next.
    pub fn position(&self) -> usize {
        self.next
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.last {
            return None;
        }
        let queue = self.queues.get((self.next - self.first) % self.queues.len().max(1))?;
        // A thread that panicked has dropped its end of the queue.
        let batch =
            queue.recv().unwrap_or_else(|_| Err(DataError::Thread("ended before its work was done".to_owned())));
        self.next = if batch.is_ok() { self.next + 1 } else { self.last };
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.queues.clear(); // a thread that waits for room wakes up and ends
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{MemorySet, Normalise, Picture};

    fn set(n: usize) -> Arc<dyn DataSet> {
        let x = Tensor::new([n, 1, 2, 2], Data::U8((0..4 * n).map(|v| v as u8).collect())).unwrap();
        Arc::new(MemorySet::new(x, (0..n as u32).collect(), vec![], "t".as_ref()).unwrap())
    }

    fn options(threads: usize) -> LoaderOptions {
        let augment = "pad=1,flip,brightness=0.2,contrast=0.5:1.5".parse().unwrap();
        let transform = Transform { augment, ..Transform::fit([3, 3, 3], true, Normalise::default()) };
        LoaderOptions { batch: 4, threads, seed: 9, train: true, drop_last: false, transform }
    }

    fn all(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
        loader.epoch(epoch, first).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn threads_and_resuming_change_nothing() {
        let one = all(&Loader::new(set(22), options(1)), 3, 0);
        assert_eq!(one.iter().map(|b| b.labels.len()).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 2]);
        let mut seen: Vec<i32> = one.iter().flat_map(|b| b.labels.clone()).collect();
        for threads in [2, 3, 16] {
            let loader = Loader::new(set(22), options(threads));
            assert_eq!(all(&loader, 3, 0), one);
            assert_eq!(all(&loader, 3, 4), one[4..]);
            assert!(all(&loader, 3, 6).is_empty() && all(&loader, 3, 7).is_empty());
        }
        assert_ne!(all(&Loader::new(set(22), options(1)), 4, 0), one);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..22));
    }

    #[test]
    fn evaluation_keeps_the_order_and_the_last_batch_may_go() {
        let options = LoaderOptions { batch: 3, drop_last: true, ..LoaderOptions::default() };
        let loader = Loader::new(set(8), options);
        let got = all(&loader, 0, 0);
        assert_eq!((loader.batches(), loader.images(), got.len()), (2, 6, 2));
        assert_eq!(got[1].labels, [3, 4, 5]);
        assert_eq!(got[0].x.as_f32().unwrap()[..2], [0.0, 1.0 / 255.0]);
        let mut options = LoaderOptions { batch: 99, ..LoaderOptions::default() };
        options.transform.normalise.raw = true;
        let got = all(&Loader::new(set(2), options), 0, 0);
        assert_eq!(got[0].x, Tensor::new([2, 1, 2, 2], Data::U8((0..8).collect())).unwrap());
    }

    #[test]
    fn stopping_early_ends_the_threads() {
        let loader = Loader::new(set(200), options(3));
        let mut epoch = loader.epoch(0, 0);
        assert!(epoch.next().unwrap().is_ok());
        assert_eq!(epoch.position(), 1);
        drop(epoch);
        assert_eq!(Arc::strong_count(loader.set()), 1);
    }

    /// Picture 5 is unreadable, 9 has another size, 13 makes the thread panic.
    struct Faulty(usize);
    impl DataSet for Faulty {
        fn len(&self) -> usize {
            20
        }
        fn shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }
        fn image(&self, i: usize) -> Result<Picture<'_>, DataError> {
            assert!(i != self.0 || i != 13);
            match i {
                5 if self.0 == 5 => Err(DataError::picture(self, i, "not a readable picture")),
                9 if self.0 == 9 => Ok(Picture { shape: [1, 1, 2], pixels: Pixels::U8((&[1, 2]).into()) }),
                _ => Ok(Picture { shape: [1, 1, 1], pixels: Pixels::U8((&[1]).into()) }),
            }
        }
        fn label(&self, _: usize) -> Option<u32> {
            Some(0)
        }
        fn classes(&self) -> usize {
            1
        }
        fn name(&self, i: usize) -> String {
            format!("picture {i}")
        }
    }

    #[test]
    fn trouble_in_a_thread_is_an_error_after_which_the_epoch_ends() {
        for (at, text) in
            [(5, "picture 5: not a readable"), (9, "picture 9: the picture is 1×1×2"), (13, "report the defect")]
        {
            for threads in [1, 3] {
                let options = LoaderOptions { batch: 2, threads, ..LoaderOptions::default() };
                let got: Vec<_> = Loader::new(Arc::new(Faulty(at)), options).epoch(0, 0).collect();
                let (last, before) = got.split_last().unwrap();
                assert!(before.len() == at / 2 && before.iter().all(Result::is_ok));
                assert!(last.as_ref().unwrap_err().to_string().contains(text));
            }
        }
    }
}
