//! Traces over OTLP: what one signal of the grid did, from hop to hop.
//!
//! A hop is one [`Span`]; its parent came with the message that caused it, as the text that W3C Trace Context calls
//! `traceparent`. Parents are handed on as values and never looked up: what a signal causes crosses tasks, processes and the log.
//! A process without an exporter makes no spans: everything here then costs one look at a flag.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context as Parent, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span as Recorded};

/// Name of the field, W3C Trace Context 3.2.
const FIELD: &str = "traceparent";

/// What is waited for at once; the oldest is given up.
const PENDING: usize = 256;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Spans go to `tracer` from now on; the first one stays.
pub(crate) fn install(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// Whether spans are exported at all.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// The present instant of the machine, for the begin of a span: spans show real time whatever the speed of the clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "traces of several processes meet on the wall clock, which decides nothing"
)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// A hop that others follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Context(SpanContext);

impl Context {
    /// The hop that a message names. None if tracing is off, if the text is no `traceparent`, or if its sender does not
    /// export the trace.
    #[must_use]
    pub fn of(traceparent: &str) -> Option<Self> {
        if !is_on() {
            return None;
        }
        let fields = HashMap::from([(FIELD.to_owned(), traceparent.to_owned())]);
        let parent = TraceContextPropagator::new().extract_with_context(&Parent::new(), &fields);
        let context = parent.span().span_context().clone();
        (context.is_valid() && context.is_sampled()).then_some(Self(context))
    }

    /// Whether both are hops of one trace.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.0.trace_id() == other.0.trace_id()
    }

    /// As messages carry it.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut fields = HashMap::new();
        TraceContextPropagator::new().inject_context(&self.parent(), &mut fields);
        fields.remove(FIELD).unwrap_or_default()
    }

    fn parent(&self) -> Parent {
        Parent::new().with_remote_span_context(self.0.clone())
    }
}

/// One hop. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Recorded>>);

impl Span {
    /// The first hop of a trace; whether it is exported is up to the sampler (`OTEL_TRACES_SAMPLER`).
    #[must_use]
    pub fn root(name: impl Into<Cow<'static, str>>) -> Self {
        Self::begin(name.into(), &Parent::new(), now())
    }

    /// A hop caused by `parent`, from now on.
    #[must_use]
    pub fn after(parent: &Context, name: impl Into<Cow<'static, str>>) -> Self {
        Self::begin(name.into(), &parent.parent(), now())
    }

    /// A hop caused by `parent` that began a while ago.
    #[must_use]
    pub fn since(parent: &Context, name: impl Into<Cow<'static, str>>, began: SystemTime) -> Self {
        Self::begin(name.into(), &parent.parent(), began)
    }

    /// A hop that took `took` and ends now.
    #[must_use]
    pub fn lasted(parent: &Context, name: impl Into<Cow<'static, str>>, took: Duration) -> Self {
        let ended = now();
        Self::since(parent, name, ended.checked_sub(took).unwrap_or(ended))
    }

    fn begin(name: Cow<'static, str>, parent: &Parent, began: SystemTime) -> Self {
        Self(TRACER.get().map(|tracer| {
            let span = tracer
                .span_builder(name)
                .with_kind(SpanKind::Internal)
                .with_start_time(began);
            Box::new(span.start_with_context(tracer, parent))
        }))
    }

    /// Says something about the hop; names are those of log fields.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Says something about the hop.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// The hop came to nothing.
    pub fn failed(&mut self, why: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why));
        }
    }

    /// For the hops that this one causes; none if it is not exported.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        let context = self.0.as_ref()?.span_context();
        context.is_sampled().then(|| Context(context.clone()))
    }
}

/// Hops that will be followed by something that does not carry its trace: an answer, a meter. The newest are kept.
#[derive(Debug)]
pub struct Pending<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    by_name: BTreeMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            by_name: BTreeMap::new(),
            order: VecDeque::new(),
        }))
    }
}

impl<T> Pending<T> {
    /// Something called `name` will follow; what was known of that name before is replaced.
    pub fn expect(&self, name: &str, hop: T) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.by_name.insert(name.to_owned(), hop).is_none() {
            waiting.order.push_back(name.to_owned());
        }
        while waiting.order.len() > PENDING
            && let Some(oldest) = waiting.order.pop_front()
        {
            waiting.by_name.remove(&oldest);
        }
    }

    /// What `name` follows, if it `follows` it; then it is not waited for any more.
    pub fn met(&self, name: &str, follows: impl FnOnce(&T) -> bool) -> Option<T> {
        if !is_on() {
            return None;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.by_name.get(name).is_some_and(follows) {
            return None;
        }
        waiting.order.retain(|other| other != name);
        waiting.by_name.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use std::sync::Arc;

    /// Keeps what it is given.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// The tracer of a process is one, so this is one test.
    #[test]
    fn a_trace_goes_on_in_whoever_reads_its_traceparent() {
        assert!(Span::root("nobody exports").context().is_none());
        assert_eq!(
            Context::of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            None
        );
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        install(provider.tracer("test"));

        let root = Span::root("signal").with("signal.id", "s1");
        let told = root.context().unwrap().traceparent();
        let here = Context::of(&told).unwrap();
        drop(Span::lasted(&here, "answer", Duration::from_secs(2)));
        drop(root);
        let spans = exporter.0.lock().unwrap().clone();
        let [answer, signal] = spans.as_slice() else {
            panic!("two hops: {spans:?}");
        };
        assert_eq!(
            answer.span_context.trace_id(),
            signal.span_context.trace_id()
        );
        assert_eq!(answer.parent_span_id, signal.span_context.span_id());
        let took = answer.end_time.duration_since(answer.start_time).unwrap();
        assert!(took >= Duration::from_secs(2), "{took:?}");

        for none in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7-b7ad-01",
        ] {
            assert_eq!(Context::of(none), None, "{none}");
        }
        let said = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Context::of(said).unwrap().traceparent(), said);

        let pending = Pending::default();
        for n in 0..=PENDING {
            pending.expect(&n.to_string(), n);
        }
        assert_eq!(pending.met("0", |_| true), None, "the oldest is given up");
        assert_eq!(pending.met("7", |n| *n > 7), None);
        assert_eq!(pending.met("7", |n| *n == 7), Some(7));
        assert_eq!(pending.met("7", |_| true), None);
    }
}
