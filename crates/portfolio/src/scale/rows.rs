//! The rows of one step, for the vehicles in the lanes: their values, their transpose and their normal matrix.
//!
//! ```text
//! c   = a*(e' - e) + b*d       a = 1/ec, b = 1/(ec*ed): charging eliminated by the energy balance, which always holds
//! ruc = a*w - b*u              w: what Up takes from the battery, u: the part of Up that draws on it
//! p   = c - d = a*(e' - e) + g*d      ru = ruc + u = a*w - g*u      g = b - 1
//! ```
//!
//! Power in kW, energy in kW-steps (kWh over the step length). A one-way vehicle has `d = u = 0`; with `b = g = 0` in
//! its lane neither appears in any row.

use pulp::Simd;

use super::lanes::V;

/// Variables of a step: `d, u, w, r` and `e'`, the energy after it.
pub(super) const OWN: usize = 5;
/// What earlier steps hand over: `e`, then `w` and `r` of the three steps before.
pub(super) const PAST: usize = 7;
/// Inequality rows of a step.
pub(super) const ROWS: usize = 15;

pub(super) const D: usize = 0;
pub(super) const U: usize = 1;
pub(super) const W: usize = 2;
pub(super) const R: usize = 3;
pub(super) const E: usize = 4;

/// How energy is kept for reserve: `headroom = "snapshot"`.
pub(super) const SNAPSHOT: u8 = 0;
/// Activation windows of one or two steps.
pub(super) const WINDOW: u8 = 1;

/// What does not change from step to step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vehicle<S: Simd> {
    /// `1/ec`
    pub(super) a: V<S>,
    /// `1/(ec*ed)`, zero for a one-way vehicle.
    pub(super) b: V<S>,
    /// `b - 1`, zero for a one-way vehicle.
    pub(super) g: V<S>,
    /// `b + Pc/Pd`, zero for a one-way vehicle.
    pub(super) b_rho: V<S>,
    /// What a kW of Down adds to the battery: `1/ed`, times the endurance in steps for the snapshot rule.
    pub(super) fill: V<S>,
    /// The endurance in steps for the snapshot rule, else 1.
    pub(super) last: V<S>,
    /// 1 where an activation window covers two steps, 0 where it covers one.
    pub(super) older: V<S>,
    pub(super) power_factor: V<S>,
    pub(super) charge_kw: V<S>,
    pub(super) discharge_kw: V<S>,
    pub(super) floor: V<S>,
    pub(super) capacity: V<S>,
    pub(super) arrival: V<S>,
}

/// `A x` of a step's rows, without the constants.
#[inline(always)]
pub(super) fn linear<S: Simd, const RULE: u8>(
    k: &Vehicle<S>,
    x: &[V<S>; OWN],
    past: &[V<S>; PAST],
) -> [V<S>; ROWS] {
    let q = k.a * (x[E] - past[0]);
    let c = k.b.fma(x[D], q);
    let p = k.g.fma(x[D], q);
    let aw = k.a * x[W];
    let cancel = k.b.fnma(x[U], aw);
    let up = k.g.fnma(x[U], aw);
    let both = k.b_rho.fma(x[D], q);
    let (u, d) = match RULE {
        SNAPSHOT => {
            let (drain, fill) = (k.last * x[W], k.fill * x[R]);
            (
                [x[E] - drain, past[0] - drain, x[E]],
                [-(x[E] + fill), -(past[0] + fill), -x[E]],
            )
        }
        _ => {
            let o = k.older;
            let (w0, w1, w2) = (
                o.fma(past[1], x[W]),
                o.fma(past[2], past[1]),
                o.fma(past[3], past[2]),
            );
            let (r0, r1, r2) = (
                o.fma(past[4], x[R]),
                o.fma(past[5], past[4]),
                o.fma(past[6], past[5]),
            );
            (
                [x[E] - w0, x[E] - w1, x[E] - w2],
                [
                    -k.fill.fma(r0, x[E]),
                    -k.fill.fma(r1, x[E]),
                    -k.fill.fma(r2, x[E]),
                ],
            )
        }
    };
    [
        c,
        x[D],
        -both,
        cancel,
        x[U],
        c - cancel,
        k.power_factor.fnma(up, p),
        x[R],
        -k.power_factor.fma(x[R], p),
        u[0],
        u[1],
        u[2],
        d[0],
        d[1],
        d[2],
    ]
}

/// The constants of a step's rows; `share` of the step the vehicles are plugged in.
#[inline(always)]
pub(super) fn constants<S: Simd>(k: &Vehicle<S>, share: V<S>) -> [V<S>; ROWS] {
    let zero = share.like(0.0);
    let (up, down) = (-k.floor, k.capacity);
    [
        zero,
        zero,
        share * k.charge_kw,
        zero,
        zero,
        zero,
        k.discharge_kw,
        zero,
        k.charge_kw,
        up,
        up,
        up,
        down,
        down,
        down,
    ]
}

/// `A' y` of a step's rows, added to what the step's variables and the past already have.
#[inline(always)]
pub(super) fn transpose<S: Simd, const RULE: u8>(
    k: &Vehicle<S>,
    y: &[V<S>; ROWS],
    own: &mut [V<S>; OWN],
    past: &mut [V<S>; PAST],
) {
    let charger = y[0] + y[5] - y[2];
    let net = y[6] - y[8];
    let q = k.a * (charger + net);
    let cancel = y[3] - y[5];
    let called = k.power_factor * y[6];
    let band = (y[9] + y[10] + y[11]) - (y[12] + y[13] + y[14]);
    own[D] += k.b.fma(y[0] + y[5], k.g * net) + k.b_rho.fnma(y[2], y[1]);
    own[U] += k.g.fma(called, y[4]) - k.b * cancel;
    own[W] += k.a * (cancel - called);
    own[R] += k.power_factor.fnma(y[8], y[7]);
    match RULE {
        SNAPSHOT => {
            own[E] += q + (y[9] + y[11]) - (y[12] + y[14]);
            past[0] += (y[10] - y[13]) - q;
            own[W] -= k.last * (y[9] + y[10]);
            own[R] -= k.fill * (y[12] + y[13]);
        }
        _ => {
            let o = k.older;
            own[E] += q + band;
            past[0] -= q;
            own[W] -= y[9];
            past[1] -= o.fma(y[9], y[10]);
            past[2] -= o.fma(y[10], y[11]);
            past[3] -= o * y[11];
            own[R] -= k.fill * y[12];
            past[4] -= k.fill * o.fma(y[12], y[13]);
            past[5] -= k.fill * o.fma(y[13], y[14]);
            past[6] -= k.fill * (o * y[14]);
        }
    }
}

/// A symmetric matrix over the variables of a step (0 to 4) and the past (5 to 11); only `[i][j]` with `i <= j` counts.
pub(super) type Front<S> = [[V<S>; OWN + PAST]; OWN + PAST];

/// `A' diag(th) A` of a step's rows, added to a front.
#[inline(always)]
pub(super) fn normal<S: Simd, const RULE: u8>(k: &Vehicle<S>, th: &[V<S>; ROWS], f: &mut Front<S>) {
    let pf = k.power_factor;
    let (b5, g6) = (k.b * th[5], k.g * th[6]);
    let (b0, g8) = (k.b * th[0], k.g * th[8]);
    let rho2 = k.b_rho * th[2];
    let (pf6, pf8) = (pf * th[6], pf * th[8]);
    let (a3, a5) = (k.a * th[3], k.a * th[5]);
    let apf6 = k.a * pf6;
    // `v` is `a*(e' - e)`.
    let vv = (th[0] + th[2]) + (th[5] + th[6]) + th[8];
    let vd = (b0 + rho2) + (b5 + g6) + g8;
    let vu = k.b.fma(th[5], k.g * pf6);
    let vw = -(a5 + apf6);
    let dd = k.b.fma(b0 + b5, th[1]) + k.b_rho.fma(rho2, k.g * (g6 + g8));
    let gpf6 = k.g * pf6;
    f[D][D] += dd;
    f[D][U] += k.b.fma(b5, k.g * gpf6);
    f[D][W] -= k.b.fma(a5, k.g * apf6);
    f[D][R] += k.g * pf8;
    f[U][U] += k.b.fma(k.b * th[3] + b5, th[4]) + gpf6 * (pf * k.g);
    f[U][W] -= k.b.fma(a3 + a5, pf * (k.g * apf6));
    f[W][W] += k.a.fma(a3 + a5, pf * (k.a * apf6));
    f[R][R] += pf.fma(pf8, th[7]);
    let (av, avd) = (k.a * vv, k.a * vd);
    let aav = k.a * av;
    let (avu, avw, avr) = (k.a * vu, k.a * vw, k.a * pf8);
    f[E][E] += aav;
    f[5][5] += aav;
    f[E][5] -= aav;
    f[D][E] += avd;
    f[D][5] -= avd;
    f[U][E] += avu;
    f[U][5] -= avu;
    f[W][E] += avw;
    f[W][5] -= avw;
    f[R][E] += avr;
    f[R][5] -= avr;
    let h = k.fill;
    let hh = h * h;
    match RULE {
        SNAPSHOT => {
            let n = k.last;
            f[E][E] += (th[9] + th[11]) + (th[12] + th[14]);
            f[5][5] += th[10] + th[13];
            f[W][E] -= n * th[9];
            f[W][5] -= n * th[10];
            f[W][W] += n * n * (th[9] + th[10]);
            f[R][E] += h * th[12];
            f[R][5] += h * th[13];
            f[R][R] += hh * (th[12] + th[13]);
        }
        _ => {
            let o = k.older;
            let (o9, o10, o11) = (o * th[9], o * th[10], o * th[11]);
            let (o12, o13, o14) = (o * th[12], o * th[13], o * th[14]);
            let (u01, u12) = (o9 + th[10], o10 + th[11]);
            let (d01, d12) = (o12 + th[13], o13 + th[14]);
            f[E][E] += (th[9] + th[10] + th[11]) + (th[12] + th[13] + th[14]);
            f[W][E] -= th[9];
            f[E][6] -= u01;
            f[E][7] -= u12;
            f[E][8] -= o11;
            f[W][W] += th[9];
            f[W][6] += o9;
            f[6][6] += u01;
            f[6][7] += o10;
            f[7][7] += u12;
            f[7][8] += o11;
            f[8][8] += o11;
            f[R][E] += h * th[12];
            f[E][9] += h * d01;
            f[E][10] += h * d12;
            f[E][11] += h * o14;
            f[R][R] += hh * th[12];
            f[R][9] += hh * o12;
            f[9][9] += hh * d01;
            f[9][10] += hh * o13;
            f[10][10] += hh * d12;
            f[10][11] += hh * o14;
            f[11][11] += hh * o14;
        }
    }
}
