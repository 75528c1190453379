//! `PlanService`.

use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use wire::proto::portfolio::v1 as proto;
use wire::proto::portfolio::v1::plan_service_server::PlanService;

use crate::planner::Planned;

#[derive(Debug)]
pub(crate) struct Service(pub(crate) watch::Receiver<Option<Planned>>);

fn message(planned: &Planned) -> proto::Plan {
    wire::portfolio::plan_message(&planned.0, &planned.1)
}

#[tonic::async_trait]
impl PlanService for Service {
    async fn get_plan(
        &self,
        _: Request<proto::GetPlanRequest>,
    ) -> Result<Response<proto::Plan>, Status> {
        let newest = self.0.borrow().clone();
        newest
            .map(|planned| Response::new(message(&planned)))
            .ok_or_else(|| Status::not_found("no plan was made yet"))
    }

    type WatchPlansStream = Pin<Box<dyn Stream<Item = Result<proto::Plan, Status>> + Send>>;

    /// The newest plan, then each later one; a slow watcher misses some and always gets the newest.
    async fn watch_plans(
        &self,
        _: Request<proto::GetPlanRequest>,
    ) -> Result<Response<Self::WatchPlansStream>, Status> {
        let plans = WatchStream::new(self.0.clone()).filter_map(|p| p.map(|p| Ok(message(&p))));
        Ok(Response::new(Box::pin(plans)))
    }
}
