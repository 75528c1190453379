//! `MarketService`, played.

use tonic::{Request, Response, Status};
use wire::proto::dispatch::v1::Activation;
use wire::proto::market::v1::market_service_server::{MarketService, MarketServiceServer};
use wire::proto::market::v1::{
    Award, Bid, Gate, GatesRequest, GatesResponse, ListAwardsResponse, ListBidsResponse,
    ListPricesResponse, ListRequest, ListStatementsResponse, Statement, WithdrawBidRequest,
    WithdrawBidResponse,
};

use super::World;

/// What is listed.
#[derive(Default)]
pub struct Book {
    pub bids: Vec<Bid>,
    pub awards: Vec<Award>,
    pub statements: Vec<Statement>,
    pub gates: Vec<Gate>,
    pub activations: Vec<Activation>,
}

pub fn server(world: World) -> MarketServiceServer<World> {
    MarketServiceServer::new(world)
}

fn inside(start: i64, span: &ListRequest) -> bool {
    (span.from_micros..span.to_micros).contains(&start)
}

#[tonic::async_trait]
impl MarketService for World {
    async fn list_bids(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<ListBidsResponse>, Status> {
        let bids = self.market.lock().unwrap().bids.clone();
        let span = request.into_inner();
        let bids = bids
            .into_iter()
            .filter(|b| inside(b.start_micros, &span))
            .collect();
        Ok(Response::new(ListBidsResponse { bids }))
    }
    async fn list_awards(
        &self,
        _: Request<ListRequest>,
    ) -> Result<Response<ListAwardsResponse>, Status> {
        let awards = self.market.lock().unwrap().awards.clone();
        Ok(Response::new(ListAwardsResponse { awards }))
    }
    async fn list_prices(
        &self,
        _: Request<ListRequest>,
    ) -> Result<Response<ListPricesResponse>, Status> {
        Ok(Response::new(ListPricesResponse::default()))
    }
    async fn list_statements(
        &self,
        _: Request<ListRequest>,
    ) -> Result<Response<ListStatementsResponse>, Status> {
        let statements = self.market.lock().unwrap().statements.clone();
        Ok(Response::new(ListStatementsResponse { statements }))
    }
    async fn next_gates(
        &self,
        _: Request<GatesRequest>,
    ) -> Result<Response<GatesResponse>, Status> {
        let gates = self.market.lock().unwrap().gates.clone();
        Ok(Response::new(GatesResponse { gates }))
    }
    async fn withdraw_bid(
        &self,
        _: Request<WithdrawBidRequest>,
    ) -> Result<Response<WithdrawBidResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}
