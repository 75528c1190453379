//! The interior-point solver, behind one function. No other module knows its name or its matrices.

use clarabel::algebra::CscMatrix;
use clarabel::solver::{
    DefaultSettings, DefaultSettingsBuilder, DefaultSolver, IPSolver, SolverStatus,
    SupportedConeT::{self, NonnegativeConeT, SecondOrderConeT},
};

use super::program::Program;

/// What the solver left behind; to be judged by bound and repair, never taken at its word.
#[derive(Debug)]
pub(crate) struct Iterate {
    /// One value per column.
    pub(crate) x: Vec<f64>,
    /// One price per row; for [`Verdict::Infeasible`] the weights of the rows in the proof.
    pub(crate) prices: Vec<f64>,
    pub(crate) verdict: Verdict,
    pub(crate) iterations: u32,
    /// The solver's own name for how it ended.
    pub(crate) word: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Worth repairing and bounding.
    Candidate,
    /// The rows exclude each other.
    Infeasible,
    /// Nothing usable.
    Failed,
}

/// Ways to run the solver, tried in order until the gap is small.
pub(crate) const ATTEMPTS: usize = 4;

/// How far each attempt opens every row (kW, kW-steps), so that rows which pin a variable leave an interior. What
/// this gains the iterate is taken back by the repair, and the bound never used it.
const OPENED: [f64; ATTEMPTS] = [0.0, 2e-7, 2e-6, 0.0];

/// More iterations than any problem that converges has been seen to take (20 to 60).
const MOST_ITERATIONS: u32 = 200;

fn settings(attempt: usize) -> Option<DefaultSettings<f64>> {
    let mut builder = DefaultSettingsBuilder::default();
    builder
        .verbose(false)
        .max_iter(MOST_ITERATIONS)
        .max_threads(1)
        .presolve_enable(false);
    if attempt > 0 {
        // A first attempt that took a narrow interior for none must not be believed again.
        builder.tol_infeas_abs(1e-13).tol_infeas_rel(1e-13);
    }
    match attempt {
        0 | 1 => &mut builder,
        // Stuck on badly scaled pivots: regularise more and refine longer.
        2 => builder
            .static_regularization_constant(1e-7)
            .dynamic_regularization_delta(1e-6)
            .iterative_refinement_max_iter(30),
        // Stuck at the border: shorter steps, no scaling of rows and columns.
        _ => builder.equilibrate_enable(false).max_step_fraction(0.9),
    };
    builder.build().ok()
}

/// Minimises a programme.
pub(crate) fn minimise(program: &Program, attempt: usize) -> Iterate {
    let columns = program.cost.len();
    let matrix = by_column(program);
    let cones = cones(program);
    let failed = |word: String| Iterate {
        x: Vec::new(),
        prices: Vec::new(),
        verdict: Verdict::Failed,
        iterations: 0,
        word,
    };
    let Some(settings) = settings(attempt) else {
        return failed("its settings were refused".to_owned());
    };
    let quadratic = CscMatrix::zeros((columns, columns));
    let opened = OPENED.get(attempt).copied().unwrap_or(0.0);
    let mut limits: Vec<f64> = program.limit.iter().map(|limit| limit + opened).collect();
    for cone in &program.cones {
        // A cone is opened by its head alone.
        limits[cone + 1] -= opened;
        limits[cone + 2] -= opened;
    }
    match DefaultSolver::new(
        &quadratic,
        &program.cost,
        &matrix,
        &limits,
        &cones,
        settings,
    ) {
        Err(error) => failed(format!("{error:?}")),
        Ok(mut solver) => {
            solver.solve();
            let solution = &solver.solution;
            let finite = solution.x.iter().all(|x| x.is_finite());
            Iterate {
                x: solution.x.clone(),
                prices: solution.z.clone(),
                verdict: verdict(solution.status, finite),
                iterations: solution.iterations,
                word: format!("{:?}", solution.status),
            }
        }
    }
}

/// The rows in order: runs of inequalities, and cones of three between them.
fn cones(program: &Program) -> Vec<SupportedConeT<f64>> {
    let mut found = Vec::new();
    let mut next = 0;
    for cone in &program.cones {
        if *cone > next {
            found.push(NonnegativeConeT(cone - next));
        }
        found.push(SecondOrderConeT(3));
        next = cone + 3;
    }
    if program.limit.len() > next {
        found.push(NonnegativeConeT(program.limit.len() - next));
    }
    found
}

fn verdict(status: SolverStatus, finite: bool) -> Verdict {
    use SolverStatus as Status;
    match status {
        Status::PrimalInfeasible | Status::AlmostPrimalInfeasible => Verdict::Infeasible,
        Status::Solved
        | Status::AlmostSolved
        | Status::MaxIterations
        | Status::MaxTime
        | Status::NumericalError
        | Status::InsufficientProgress
        | Status::CallbackTerminated
            if finite =>
        {
            Verdict::Candidate
        }
        Status::Unsolved
        | Status::Solved
        | Status::DualInfeasible
        | Status::AlmostDualInfeasible
        | Status::MaxIterations
        | Status::MaxTime
        | Status::NumericalError
        | Status::InsufficientProgress
        | Status::AlmostSolved
        | Status::CallbackTerminated => Verdict::Failed,
    }
}

/// The rows as compressed columns; row numbers rise within a column because rows are met in order.
fn by_column(program: &Program) -> CscMatrix<f64> {
    let (columns, rows) = (program.cost.len(), program.limit.len());
    let mut starts = vec![0_usize; columns + 1];
    for (column, _) in &program.terms {
        starts[column + 1] += 1;
    }
    for column in 0..columns {
        starts[column + 1] += starts[column];
    }
    let mut next = starts.clone();
    let mut row_of = vec![0_usize; program.terms.len()];
    let mut values = vec![0.0; program.terms.len()];
    for row in 0..rows {
        for (column, by) in &program.terms[program.starts[row]..program.starts[row + 1]] {
            row_of[next[*column]] = row;
            values[next[*column]] = *by;
            next[*column] += 1;
        }
    }
    CscMatrix::new(rows, columns, starts, row_of, values)
}
