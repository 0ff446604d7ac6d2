//! The experts of a sparse layer, however they are stored, as two stacks.

use super::{Loader, join};
use crate::model::{
    ModelError,
    activation::Nonlinearity,
    experts::{Experts, SharedExpert},
    names::EachExpert,
    spec::ExpertsSpec,
};

impl Loader<'_> {
    pub(super) fn experts(
        &self,
        layer: usize,
        spec: ExpertsSpec,
        name: &dyn Fn(&str) -> String,
    ) -> Result<Experts, ModelError> {
        let (d, m, n) = (self.spec.d_model, spec.d_expert, spec.n);
        let router = self.linear(&name(spec.names.router), n, d, false)?;
        let sizes = [[n, 2 * m, d], [n, d, m]].map(|size| size.map(|n| n as i64));
        let [gate_up, down] = match spec.names.each {
            EachExpert::Stacked([gate_up, down]) => {
                let stack = |part: &str, size: &[i64]| self.take(&name(&format!("{part}.weight")), size);
                [stack(gate_up, &sizes[0])?, stack(down, &sizes[1])?]
            }
            EachExpert::ByNumber(start, [gate, up, down]) => {
                let one = |i: usize, part: &str, rows: usize, columns: usize| {
                    self.linear(&name(&format!("{start}{i}.{part}")), rows, columns, false)
                };
                let (gate_ups, downs) = (router.room(&sizes[0])?, router.room(&sizes[1])?);
                for i in 0..n {
                    let both = join(&[one(i, gate, m, d)?, one(i, up, m, d)?]);
                    gate_ups.f_get(i as i64)?.f_copy_(&both.weight)?;
                    downs.f_get(i as i64)?.f_copy_(&one(i, down, d, m)?.weight)?;
                }
                [gate_ups, downs]
            }
        };
        let shared =
            spec.d_shared.map(|width| self.shared_expert(spec.names.shared, width, name)).transpose()?;
        let activation = Nonlinearity::new(self.spec.activation, || self.xielu(&name("mlp.act_fn")))?;
        Ok(Experts { layer, spec, router, gate_up, down, shared, activation })
    }

    fn shared_expert(
        &self,
        [start, share]: [&str; 2],
        width: usize,
        name: &dyn Fn(&str) -> String,
    ) -> Result<SharedExpert, ModelError> {
        let d = self.spec.d_model;
        let one =
            |part: &str, rows, columns| self.linear(&name(&format!("{start}.{part}")), rows, columns, false);
        Ok(SharedExpert {
            gate_up: join(&[one("gate_proj", width, d)?, one("up_proj", width, d)?]),
            down: one("down_proj", d, width)?,
            share: self.linear(&name(share), 1, d, false)?,
        })
    }
}
