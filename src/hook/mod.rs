//! Hook points, and taps: the only way into a forward pass.
//!
//! The decoder calls [`Tap::visit`] at every [`HookPoint`] the tap [wants](Tap::wants); what comes back
//! is what later layers see. A tap keeps, edits or [stops](Tap::stop_after). It lives for one borrow, so
//! nothing has to be removed afterwards. Functions become taps by [`from_fn`]; pairs of taps, borrowed taps, and a tap
//! that may be there or not, are taps:
//!
//! ```
//! use layerscope::hook::{Edit, HookPoint, StopAfter, Tap, from_fn};
//! use tch::Tensor;
//!
//! let mut seen = Vec::new();
//! let mut watch = from_fn(|point, value| {
//!     seen.push(point);
//!     value
//! });
//! let double = Edit::at(HookPoint::Embed, |value| value * 2.0);
//! let some: &mut dyn Tap = &mut watch;
//! let mut all = ((double, some), None::<StopAfter>);
//! let x = Tensor::ones([1, 2, 3], (tch::Kind::Float, tch::Device::Cpu));
//! assert_eq!(all.visit(HookPoint::Embed, x).unwrap().double_value(&[0, 0, 0]), 2.0);
//! assert_eq!(seen, [HookPoint::Embed]);
//! ```

mod capture;
mod edit;
mod names;
mod point;
mod select;
mod tap_error;

use std::ops::Range;

pub use capture::Capture;
pub use edit::{Edit, StopAfter};
pub use point::{BlockHook, HookPoint};
pub use select::{HookError, Selection};
pub use tap_error::TapError;
pub(crate) use tap_error::first_line;
use tch::Tensor;

/// Something that watches, edits or ends a forward pass.
pub trait Tap {
    /// Sees the value at `point` and returns what the rest of the network shall use.
    ///
    /// The tensor may share memory with the network's own: edit by returning a new one, keep a copy.
    ///
    /// # Errors
    /// What the tap could not do; the pass ends with it.
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError>;

    /// A pass over the tokens at `positions` begins; after a prompt, a pass with cached keys and values starts later
    /// than 0.
    fn begin(&mut self, positions: Range<usize>) {
        let _ = positions;
    }

    /// Whether the decoder shall come by at `point`; what nobody wants is not computed.
    ///
    /// Everything by default but the per-head results, which are as large as the residual stream
    /// times the number of heads and must be asked for.
    fn wants(&self, point: HookPoint) -> bool {
        !matches!(point, HookPoint::Block(_, BlockHook::Result))
    }

    /// The point after which the pass may end; asked anew at every point.
    fn stop_after(&self) -> Option<HookPoint> {
        None
    }
}

/// A function of a point and its value as a tap: [`from_fn`].
#[derive(Debug, Clone, Copy)]
pub struct FromFn<F>(F);

/// The tap that calls `visit` at every point that is wanted by default, and goes on with what it returns.
pub fn from_fn<F: FnMut(HookPoint, Tensor) -> Tensor>(visit: F) -> FromFn<F> {
    FromFn(visit)
}

impl<F: FnMut(HookPoint, Tensor) -> Tensor> Tap for FromFn<F> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        Ok(self.0(point, value))
    }
}

/// A borrowed tap, which can be asked afterwards.
impl<T: Tap + ?Sized> Tap for &mut T {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        (**self).visit(point, value)
    }

    fn begin(&mut self, positions: Range<usize>) {
        (**self).begin(positions);
    }

    fn wants(&self, point: HookPoint) -> bool {
        (**self).wants(point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        (**self).stop_after()
    }
}

/// A tap that may be left out; `None` wants nothing, and like `()` lets the pass go on.
impl<T: Tap> Tap for Option<T> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        match self {
            Some(tap) => tap.visit(point, value),
            None => Ok(value),
        }
    }

    fn begin(&mut self, positions: Range<usize>) {
        if let Some(tap) = self {
            tap.begin(positions);
        }
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.as_ref().is_some_and(|tap| tap.wants(point))
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.as_ref().and_then(Tap::stop_after)
    }
}

/// Nobody watches.
impl Tap for () {
    fn visit(&mut self, _point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        Ok(value)
    }

    fn wants(&self, _point: HookPoint) -> bool {
        false
    }
}

/// The first tap's edit is what the second one sees; the pass ends at the later of their stops.
impl<A: Tap, B: Tap> Tap for (A, B) {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        let value = if self.0.wants(point) { self.0.visit(point, value)? } else { value };
        if self.1.wants(point) { self.1.visit(point, value) } else { Ok(value) }
    }

    fn begin(&mut self, positions: Range<usize>) {
        self.0.begin(positions.clone());
        self.1.begin(positions);
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.0.wants(point) || self.1.wants(point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(self.0.stop_after()?.max(self.1.stop_after()?))
    }
}
