//! One thread pool for work that is parallel outside torch.

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use crate::Error;

/// Threads that each run torch single-threaded and without gradients.
///
/// torch's thread count is per thread, so its own pool sleeps while these work: never both at once.
#[derive(Debug)]
pub struct Workers {
    pool: ThreadPool,
}

impl Workers {
    /// `threads` workers; 0 means as many as torch would use now.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let outside = tch::get_num_threads();
        let threads = if threads == 0 { outside.max(1) as usize } else { threads };
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("layerscope-{i}"))
            .start_handler(|_| {
                let _first = tch::get_num_threads(); // torch's lazy set-up of a thread would undo the next line
                tch::set_num_threads(1);
                std::mem::forget(tch::no_grad_guard()); // for as long as the thread lives
            })
            .build()
            .map_err(|e| Error::Threads(e.to_string()))?;
        pool.broadcast(|_| ()); // every start handler has run
        tch::set_num_threads(outside); // it also sets what threads started later inherit
        Ok(Self { pool })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `f` over `jobs`, in parallel; results come in the order of the jobs.
    ///
    /// # Errors
    /// The first job's error.
    pub fn map<J: Send, R: Send>(
        &self,
        jobs: Vec<J>,
        f: impl Fn(J) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        self.pool.install(|| jobs.into_par_iter().with_max_len(1).map(&f).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_single_threaded_without_gradients_and_the_caller_is_not_changed() {
        let before = tch::get_num_threads();
        let workers = Workers::new(3).unwrap();
        let seen = workers.map(vec![(); 8], |()| {
            let x = tch::Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
            Ok((tch::get_num_threads(), (&x * 2.0).requires_grad()))
        });
        assert!(seen.unwrap().into_iter().all(|seen| seen == (1, false)));
        assert_eq!((tch::get_num_threads(), workers.count()), (before, 3));
        assert!(
            workers
                .map(vec![1, 2], |i| if i == 2 { Err(Error::Threads("no".into())) } else { Ok(i) })
                .is_err()
        );
    }
}
