//! Who has how much, who may have more, and whose turn is it?
//!
//! Three bounds apply to a tenant, each in all three resources:
//!
//! * its *quota* is guaranteed. A job with which its tenant stays within it is *due*,
//!   and goes before everything that is not. What others hold of it is lent: see
//!   [`super::preempt`] for how it is taken back.
//! * beyond that the tenant borrows what is idle, in order of weighted dominant
//!   shares, the lowest first (DRF: Ghodsi et al., NSDI 2011).
//! * it never exceeds its *ceiling*.
//!
//! Work that may not be preempted cannot be taken back. So latency-sensitive jobs
//! borrow only what is guaranteed to nobody: all of them together, beyond their tenants'
//! quotas, at most the site less all quotas. A quota of [`u64::MAX`] of a resource means
//! that it is not counted there.

use alloc::vec::Vec;

use crate::ledger::Node;

use super::job::{Job, Quality, Resources, Tenant};

/// One tenant's books.
#[derive(Clone, Debug, PartialEq)]
struct Account {
    terms: Tenant,
    used: Resources,
    /// By latency-sensitive jobs.
    sensitive: Resources,
}

/// Everybody's books.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accounts {
    whole: Resources,
    /// Guaranteed to nobody.
    free_of_claims: Resources,
    each: Vec<Account>,
    /// Whether anybody has a quota or a ceiling.
    is_bounded: bool,
}

impl Accounts {
    pub(super) fn new(nodes: &[Node], tenants: &[Tenant]) -> Self {
        let mut accounts = Self {
            whole: Resources::NONE,
            free_of_claims: Resources::NONE,
            each: tenants.iter().map(|&terms| Account::new(terms)).collect(),
            is_bounded: tenants
                .iter()
                .any(|t| t.quota != Resources::NONE || t.ceiling != Resources::UNBOUNDED),
        };
        for node in nodes {
            accounts.whole += Resources::in_node(node);
        }
        accounts.promise();
        accounts
    }

    /// Everybody's rights from now on, in the order of tenants.
    pub(super) fn set_terms(&mut self, tenants: &[Tenant]) {
        let fresh = Self::new(&[], tenants);
        for (account, new) in self.each.iter_mut().zip(fresh.each) {
            account.terms = new.terms;
        }
        self.is_bounded = fresh.is_bounded;
        self.promise();
    }

    fn promise(&mut self) {
        let quotas = self.each.iter().map(|a| a.terms.quota.counted());
        let promised = quotas.fold(Resources::NONE, |sum, quota| sum.plus(&quota));
        self.free_of_claims = self.whole.less(&promised);
    }

    /// A node is gone for good.
    pub(super) fn lost(&mut self, node: &Node) {
        self.whole -= Resources::in_node(node);
        self.promise();
    }

    pub(super) const fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    pub(super) fn used(&self, tenant: u16) -> Resources {
        self.each[usize::from(tenant)].used
    }

    pub(super) fn terms(&self, tenant: u16) -> &Tenant {
        &self.each[usize::from(tenant)].terms
    }

    /// Whether anything is the tenant's own, so that what it lends changes with what it uses.
    pub(super) fn is_guaranteed(&self, tenant: u16) -> bool {
        self.terms(tenant).quota != Resources::NONE
    }

    /// What of the site is guaranteed to nobody.
    pub(super) const fn unpromised(&self) -> &Resources {
        &self.free_of_claims
    }

    pub(super) const fn whole(&self) -> &Resources {
        &self.whole
    }

    pub(super) fn book(&mut self, job: &Job) {
        let account = &mut self.each[usize::from(job.tenant)];
        account.used += job.total();
        if job.quality == Quality::LatencySensitive {
            account.sensitive += job.total();
        }
    }

    pub(super) fn unbook(&mut self, job: &Job) {
        let account = &mut self.each[usize::from(job.tenant)];
        account.used -= job.total();
        if job.quality == Quality::LatencySensitive {
            account.sensitive -= job.total();
        }
    }

    /// The tenant's dominant share over its weight: the lowest is served next.
    pub(super) fn share(&self, tenant: u16) -> f64 {
        let account = &self.each[usize::from(tenant)];
        account.used.dominant_share(&self.whole) / account.terms.weight
    }

    /// Whether the tenant stays within its quota with this job.
    pub(super) fn is_due(&self, job: &Job) -> bool {
        let account = &self.each[usize::from(job.tenant)];
        account.used.within(&job.total(), &account.terms.quota)
    }

    /// Whether a running job holds something that is lent to its tenant.
    pub(super) fn borrows(&self, job: &Job) -> bool {
        let account = &self.each[usize::from(job.tenant)];
        let over = account.used.less(&account.terms.quota).each();
        let takes = job.total().each();
        over.into_iter().zip(takes).any(|(o, t)| o > 0 && t > 0)
    }

    /// Whether the tenant may have this job as well; otherwise what it would have and
    /// what it may, of the first resource that is too much.
    pub(super) fn admits(&self, job: &Job) -> Result<(), (f64, f64)> {
        if !self.is_bounded {
            return Ok(());
        }
        let account = &self.each[usize::from(job.tenant)];
        let more = job.total();
        exceeds(&account.used, &more, &account.terms.ceiling)?;
        if job.quality == Quality::BestEffort {
            return Ok(());
        }
        let lends = |account: &Account, sensitive: Resources| sensitive.less(&account.terms.quota);
        let own = lends(account, account.sensitive.plus(&more));
        let others = self.each.iter().zip(0_u16..);
        let others = others.filter(|(_, i)| *i != job.tenant);
        let others = others.fold(Resources::NONE, |sum, (other, _)| {
            sum.plus(&lends(other, other.sensitive))
        });
        for (i, takes) in more.each().into_iter().enumerate() {
            let (own, others) = (own.each()[i], others.each()[i]);
            let (lent, free) = (own.saturating_add(others), self.free_of_claims.each()[i]);
            if takes > 0 && own > 0 && lent > free {
                return Err((lent as f64, free as f64));
            }
        }
        Ok(())
    }

    /// The same, if nothing else ran.
    pub(super) fn could_ever_admit(&self, job: &Job) -> Result<(), (f64, f64)> {
        if !self.is_bounded {
            return Ok(());
        }
        let mut empty = self.clone();
        for account in &mut empty.each {
            (account.used, account.sensitive) = (Resources::NONE, Resources::NONE);
        }
        empty.admits(job)
    }
}

impl Account {
    const fn new(terms: Tenant) -> Self {
        Self {
            terms,
            used: Resources::NONE,
            sensitive: Resources::NONE,
        }
    }
}

fn exceeds(have: &Resources, more: &Resources, bound: &Resources) -> Result<(), (f64, f64)> {
    let sums = have.each().into_iter().zip(more.each()).zip(bound.each());
    for ((have, more), bound) in sums {
        if more > 0 && have.saturating_add(more) > bound {
            return Err((have.saturating_add(more) as f64, bound as f64));
        }
    }
    Ok(())
}
