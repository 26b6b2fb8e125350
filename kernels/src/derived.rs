//! What is made of a tensor's elements and kept with them: factors in the order in which products read them. Elements do
//! not change while several handles share them, and whoever writes them has the only handle: it forgets what was made.

use std::any::Any;
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub(crate) struct Derived(Mutex<Vec<Entry>>);

struct Entry {
    /// The first element, and the shape from there on.
    of: (usize, Vec<usize>),
    value: Arc<dyn Any + Send + Sync>,
}

impl Derived {
    /// What was made of the elements from `first` on in that shape and `fits`, or else what `make` makes now, in the place of
    /// others of its type.
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        (first, shape): (usize, &[usize]),
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let known = |entry: &Entry| entry.of.0 == first && entry.of.1 == shape && entry.value.is::<T>();
        let entries = self.0.lock().expect("no panic while it is locked");
        let found = entries.iter().find(|entry| known(entry)).map(|entry| entry.value.clone());
        // Nothing is locked from here: a thread that waits for parts of `make` may take up work that asks here too.
        drop(entries);
        if let Some(Ok(value)) = found.map(Arc::downcast::<T>)
            && fits(&value)
        {
            return value;
        }
        let value = Arc::new(make());
        let mut entries = self.0.lock().expect("no panic while it is locked");
        entries.retain(|entry| !known(entry));
        entries.push(Entry { of: (first, shape.to_vec()), value: value.clone() });
        value
    }

    pub(crate) fn forget(&mut self) {
        self.0.get_mut().expect("no panic while it is locked").clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::{Device, Tensor};

    #[test]
    fn what_was_made_is_kept_until_elements_are_written() {
        let made = Cell::new(0);
        let sum = |t: &Tensor, fits: bool| {
            let make = || {
                made.set(made.get() + 1);
                t.as_slice::<f32>().iter().sum::<f32>()
            };
            *t.derived(|_: &f32| fits, make)
        };
        let mut t = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[4], Device::Cpu);
        assert_eq!((sum(&t, true), sum(&t.clone(), true), made.get()), (10.0, 10.0, 1));
        assert_eq!((sum(&t.slice(2..4), true), sum(&t.reshape(&[2, 2]), true), made.get()), (7.0, 10.0, 3));
        assert_eq!((sum(&t, false), made.get()), (10.0, 4));
        t.as_mut_slice::<f32>()[0] = 5.0;
        assert_eq!((sum(&t, true), made.get()), (14.0, 5));
    }
}
