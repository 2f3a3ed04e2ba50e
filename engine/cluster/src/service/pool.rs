//! Objects that are expensive to make, kept for later requests.

use parking_lot::Mutex;

/// Most objects that are kept.
const IDLE_MAX: usize = 64;

/// Objects that no request uses at present.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    /// Calls a function with an object of the pool, or with a new one. The object is kept unless the function fails.
    pub(super) fn with<R, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
        call: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let idle = self.0.lock().pop();
        let mut object = match idle {
            Some(object) => object,
            None => make()?,
        };
        let result = call(&mut object)?;
        let mut idle = self.0.lock();
        if idle.len() < IDLE_MAX {
            idle.push(object);
        }
        Ok(result)
    }
}
