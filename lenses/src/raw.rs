//! The one place where tensor memory is seen as a slice.

use tch::{Device, Kind, Tensor};

use crate::Error;

/// Lets `f` see and change the numbers of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// When the tensor is of another kind or layout.
#[allow(unsafe_code)]
pub(crate) fn with_f32<T>(tensor: &mut Tensor, f: impl FnOnce(&mut [f32]) -> T) -> Result<T, Error> {
    let plain = tensor.kind() == Kind::Float && tensor.device() == Device::Cpu && tensor.is_contiguous();
    if !plain {
        return Err(Error::Shape {
            what: "buffer",
            expected: "contiguous f32 on the CPU".into(),
            got: tensor.size(),
        });
    }
    let (data, len) = (tensor.data_ptr().cast::<f32>(), tensor.numel());
    if len == 0 {
        return Ok(f(&mut []));
    }
    // SAFETY: a contiguous f32 CPU tensor owns `len` initialised floats from `data` on, aligned by the allocator, and
    // stays alive while `tensor` is borrowed. That borrow is exclusive; tensors that alias it exist only inside the
    // readout, whose workers have made their buffers themselves and use them one at a time.
    Ok(f(unsafe { std::slice::from_raw_parts_mut(data, len) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_tensor() {
        let mut t = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        with_f32(&mut t, |x| x[4] = 7.0).unwrap();
        assert_eq!(t.double_value(&[1, 1]), 7.0);
        for mut other in [t.tr(), t.to_kind(Kind::Double)] {
            assert!(matches!(with_f32(&mut other, |_| ()), Err(Error::Shape { what: "buffer", .. })));
        }
        assert!(with_f32(&mut Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)), |x| x.len()).unwrap() == 0);
    }
}
