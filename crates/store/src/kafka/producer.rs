//! The client that appends, replaced by a new one when it has lost its bearings.

use std::sync::{Arc, Mutex};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use super::bearings::{Bearings, FIGURES_MS};
use super::context::Quiet;
use super::{ROOM, broker, locked};
use crate::error::StoreError;

/// The client as it is now.
pub(super) struct Producer {
    config: ClientConfig,
    current: Mutex<Client>,
}

/// One client of the library. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    producer: FutureProducer<Quiet>,
    bearings: Arc<Bearings>,
}

/// A record on its way, and the client that carries it.
pub(super) struct Delivery {
    waiting: DeliveryFuture,
    bearings: Arc<Bearings>,
}

impl Producer {
    /// # Errors
    /// [`StoreError::Kafka`] for settings that the library refuses.
    pub(super) fn new(mut config: ClientConfig) -> Result<Self, StoreError> {
        config.set("statistics.interval.ms", FIGURES_MS);
        let current = Mutex::new(Client::new(&config)?);
        Ok(Self { config, current })
    }

    /// The client, a new one if that before has lost its bearings. What the old one had taken in is refused.
    ///
    /// # Errors
    /// [`StoreError::Kafka`] if no client can be made.
    pub(super) fn client(&self) -> Result<Client, StoreError> {
        let mut current = locked(&self.current);
        if current.bearings.are_lost() {
            let lost = std::mem::replace(&mut *current, Client::new(&self.config)?);
            // The library waits for its threads.
            let end = std::thread::Builder::new().name("ends a producer".to_owned());
            if let Err(error) = end.spawn(move || drop(lost)) {
                tracing::warn!(%error, "no thread to end a producer on: {error}");
            }
        }
        Ok(current.clone())
    }
}

impl Client {
    fn new(config: &ClientConfig) -> Result<Self, StoreError> {
        let bearings = Arc::<Bearings>::default();
        let context = Quiet {
            bearings: Arc::clone(&bearings),
        };
        let producer = config.create_with_context(context);
        Ok(Self {
            producer: producer.map_err(broker("producer"))?,
            bearings,
        })
    }

    /// The client for questions to the cluster.
    pub(super) fn library(&self) -> &rdkafka::client::Client<impl ClientContext> {
        self.producer.client()
    }

    /// Hands a record to the library; waits for room in its queue.
    ///
    /// # Errors
    /// [`StoreError::Kafka`] if it is refused.
    pub(super) async fn send(
        &self,
        mut record: FutureRecord<'_, String, [u8]>,
    ) -> Result<Delivery, StoreError> {
        loop {
            match self.producer.send_result(record) {
                Ok(waiting) => {
                    let bearings = Arc::clone(&self.bearings);
                    return Ok(Delivery { waiting, bearings });
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if !self.bearings.are_lost() =>
                {
                    tokio::time::sleep(ROOM).await;
                    record = back;
                }
                Err((refused, _)) => return Err(broker("append")(refused)),
            }
        }
    }
}

impl Delivery {
    /// Waits until the record is stored or refused. A client that has lost its bearings may not even say when its time is over.
    ///
    /// # Errors
    /// [`StoreError::Kafka`] if it is refused; it may be on the log all the same.
    pub(super) async fn done(self) -> Result<(), StoreError> {
        tokio::select! {
            biased;
            delivered = self.waiting => match delivered {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(broker("append")(error)),
                Err(_) => Err(StoreError::Closed),
            },
            () = self.bearings.lost() => {
                let nobody = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
                Err(broker("append")(nobody))
            }
        }
    }
}
