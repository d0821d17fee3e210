//! How good is a node for a piece of work?
//!
//! The scores of the published comparison (ATC 2023, § 6.1), each from 0 to 100, more
//! is better, cut to a whole number as the schedulers of Kubernetes want them. The
//! cut is part of the policy: it makes nodes equal that are not quite, and among
//! equals always the same one wins, so work gathers there
//! (`docs/decisions/2026-11-21-scores-are-cut-to-whole-numbers.md`).

use crate::ledger::{Demand, GPUS_MAX, Node, Room, WHOLE};
use crate::policy::fragmentation::Typical;

/// The best score there is.
pub const SCORE_MAX: u32 = 100;
/// All GPU of the largest node there can be, in thousandths.
pub(super) const GPU_MAX: u32 = GPUS_MAX as u32 * WHOLE as u32;

/// Less is left: a hundred less the mean of the CPU left over the largest node's
/// and the GPU left over eight.
#[must_use]
pub fn best_fit(room: &Room, demand: &Demand, cpu_milli_max: u32) -> u32 {
    let cpu = f64::from(room.cpu_milli - demand.cpu_milli) / f64::from(cpu_milli_max);
    let gpu = f64::from(u32::from(room.gpu_total) - demand.gpu_total()) / f64::from(GPU_MAX);
    ((1.0 - (cpu * 0.5 + gpu * 0.5)) * f64::from(SCORE_MAX)) as u32
}

/// What is asked and what is left point in different directions: one less the dot
/// product of both, in shares of the largest node, over their two dimensions
/// (Grandl et al., *Multi-Resource Packing for Cluster Schedulers*, SIGCOMM 2014, § 3,
/// turned round as the published comparison has it).
#[must_use]
pub fn dot_product(room: &Room, demand: &Demand, cpu_milli_max: u32) -> u32 {
    let of_cpu = |milli: u32| f64::from(milli) / f64::from(cpu_milli_max);
    let of_gpu = |milli: u32| f64::from(milli) / f64::from(GPU_MAX);
    let cpu = of_cpu(room.cpu_milli) * of_cpu(demand.cpu_milli);
    let gpu = of_gpu(room.gpu_total.into()) * of_gpu(demand.gpu_total());
    (f64::from(SCORE_MAX) * (1.0 - (cpu + gpu) / 2.0)) as u32
}

/// Shares go to GPUs already shared, if not to a used node, if not to an empty one;
/// within each, to where least is left (Weng et al., *MLaaS in the Wild*, NSDI 2022,
/// § 6.1).
#[must_use]
pub fn gpu_packing(node: &Node, room: &Room, demand: &Demand) -> u32 {
    if demand.share() == 0 {
        return 0;
    }
    let whole = u32::from(room.gpu_whole);
    if room.gpu_whole == node.gpus {
        return (SCORE_MAX / 3 - whole).max(whole);
    }
    let rests = (0..GPUS_MAX).filter(|g| room.snuggest(demand) >> g & 1 == 1);
    let rests = rests.map(|g| room.gpu_milli[g]);
    let untouched = rests.clone().filter(|&rest| rest == WHOLE).count() as u32;
    if untouched > 0 {
        return (SCORE_MAX / 2 - untouched).max(SCORE_MAX / 3);
    }
    let percent: u32 = rests.map(|rest| u32::from(rest) / 10).sum();
    (SCORE_MAX - percent / 10).max(SCORE_MAX / 2)
}

/// Work keeps company with work that uses GPUs as it does, so that shares and whole
/// GPUs meet on few nodes: first nodes of its own kind alone, then its own among
/// others, then empty ones, then others; within each, where least GPU is left
/// (Xiao et al., *Gandiva*, OSDI 2018, § 3.3).
#[must_use]
pub fn gpu_clustering(room: &Room, demand: &Demand) -> u32 {
    let (kind, kinds) = (demand.kind(), room.kinds());
    if demand.share() == 0 {
        return 0;
    }
    let company = match (kinds & kind != 0, kinds.count_ones()) {
        (true, 1) => 3,
        (true, _) => 2,
        (false, 0) => 1,
        (false, _) => 0,
    };
    let quarter = SCORE_MAX / 4;
    quarter * (GPU_MAX - u32::from(room.gpu_total)) / GPU_MAX + quarter * company
}

/// Fragmentation gradient descent: the fragmentation that this placement takes away,
/// in GPUs, through a logistic function; and the GPUs on which it does so best, a
/// bit each, the first of equals.
#[must_use]
pub fn fgd(typical: &Typical, node: &Node, room: &Room, demand: &Demand) -> (u32, u8) {
    let before = typical.fragmented(node, room);
    let score = |after: u64| {
        let milli = (before as f64 - after as f64) / typical.weight() as f64;
        (f64::from(SCORE_MAX) / (1.0 + libm::exp(-milli / 1_000.0))) as u32
    };
    if demand.gpus != 1 || demand.share() == WHOLE {
        let gpus = room.snuggest(demand);
        let after = typical.fragmented_after(node, room, demand, gpus);
        return (score(after), gpus);
    }
    let mut best = None;
    typical.each_after(node, room, demand, |g, after| {
        let score = score(after);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, 1 << g));
        }
    });
    best.unwrap_or((0, room.snuggest(demand)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::policy::cases::{self, demand};
    use alloc::vec;

    fn node(gpus: u8) -> Node {
        cases::node(64_000, gpus, 0)
    }

    /// A node of two GPUs after these, one on another.
    fn after(claims: &[Demand]) -> Room {
        let mut ledger = Ledger::new(vec![node(2)]);
        for claim in claims {
            ledger.claim(0, claim).unwrap();
        }
        *ledger.room(0)
    }

    #[test]
    fn best_fit_by_hand() {
        // 1 − (60/128 ÷ 2 + 1.5/8 ÷ 2) = 0.671875.
        let room = after(&[]);
        assert_eq!(best_fit(&room, &demand(4_000, 1, 500), 128_000), 67);
        // 1 − 20/128 ÷ 2 = 0.921875.
        let full = after(&[demand(24_000, 2, 1_000)]);
        assert_eq!(best_fit(&full, &demand(20_000, 0, 0), 128_000), 92);
    }

    #[test]
    fn dot_product_by_hand() {
        // 1 − (64/128 × 32/128 + 2/8 × 1/8) ÷ 2 = 0.921875.
        let room = after(&[]);
        assert_eq!(dot_product(&room, &demand(32_000, 1, 1_000), 128_000), 92);
        // Less left is better: 1 − (32/128 × 32/128 + 1/8 × 1/8) ÷ 2 = 0.9609375.
        let half = after(&[demand(32_000, 1, 1_000)]);
        assert_eq!(dot_product(&half, &demand(32_000, 1, 1_000), 128_000), 96);
    }

    #[test]
    fn gpu_packing_by_hand() {
        let share = demand(1_000, 1, 300);
        assert_eq!(gpu_packing(&node(2), &after(&[]), &share), 31);
        assert_eq!(
            gpu_packing(&node(2), &after(&[demand(1, 1, 800)]), &share),
            49
        );
        // 405 left is 40 percent: 100 − 4.
        let shared = after(&[demand(1, 1, 595)]);
        assert_eq!(gpu_packing(&node(2), &shared, &share), 96);
        assert_eq!(gpu_packing(&node(2), &shared, &demand(1, 0, 0)), 0);
    }

    #[test]
    fn gpu_clustering_by_hand() {
        let (share, whole) = (demand(1, 1, 500), demand(1, 1, 1_000));
        // 25 × 6,000 ÷ 8,000 = 18 on an empty node of two.
        assert_eq!(gpu_clustering(&after(&[]), &share), 25 + 18);
        assert_eq!(gpu_clustering(&after(&[share]), &share), 75 + 20);
        assert_eq!(gpu_clustering(&after(&[whole]), &share), 21);
        assert_eq!(gpu_clustering(&after(&[share, whole]), &share), 50 + 23);
        assert_eq!(gpu_clustering(&after(&[share]), &demand(1, 0, 0)), 0);
    }

    #[test]
    fn fgd_by_hand() {
        // Two of three want half a GPU, one wants two whole ones.
        let list = [
            demand(1_000, 1, 500),
            demand(1_000, 1, 500),
            demand(1_000, 2, 1_000),
        ];
        let typical = Typical::of(&list);
        // Empty: nothing is lost. After half of a GPU is taken: pairs lose 1,500 of
        // 1,500, halves nothing, so 500 in the mean; 100 ÷ (1 + e^0.5) = 37.75.
        let half = demand(1_000, 1, 500);
        assert_eq!(fgd(&typical, &node(2), &after(&[]), &half), (37, 0b01));
        // On 500 and 1,000 the second half goes to the first GPU: pairs lost 1,500 and
        // lose 1,000 now: 100 ÷ (1 + e^−(500 ÷ 3,000)) = 54.16. On the other GPU it
        // would be the same, and the first of equals wins.
        let room = after(&[half]);
        assert_eq!(fgd(&typical, &node(2), &room, &half), (54, 0b01));
        // 300 of a GPU that has 400, so that 100 stays: halves lost 400 and lose 100,
        // pairs lost 1,400 and lose 1,100: 300 less, 100 ÷ (1 + e^−0.3) = 57.44. On
        // the whole GPU: halves lost 400 and lose 400, pairs 300 less: 52.49.
        let room = after(&[demand(1_000, 1, 600)]);
        assert_eq!(
            fgd(&typical, &node(2), &room, &demand(1_000, 1, 300)),
            (57, 0b01)
        );
    }
}
