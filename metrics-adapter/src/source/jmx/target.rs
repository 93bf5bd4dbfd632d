//! One JVM between scrapes: its session, what is known about its beans, and one walk over them.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::explain::Explained;
use super::export::{Exporter, Known};
use super::jvm;
use super::session::{Error, Session};
use super::settings::{Collection, TargetSettings, Transport};
use super::status::{Look, Scrape};
use crate::jmx::client::{AttributeRequest, BeanAnswer};
use crate::jmx::mbean::{AttributeInfo, MBeanInfo, ObjectInstance};
use crate::jmx::object_name::ObjectName;
use crate::rule::leaf::{Leaf, LeafValue};
use crate::rule::page::{Page, Pool};
use crate::rule::prune::Pruner;
use crate::rule::set::{Learnt, write_input};
use common::trace::Span;

/// Beans asked for in one go; bounds what is held of their values.
const BEANS_PER_CALL: usize = 256;
/// Beans that are described in one go. Descriptions are long, and most of what is held of them is dropped again.
const DESCRIPTIONS_PER_CALL: usize = 128;
/// So many new beans of one class are taken to be alike at first, if one of them says that its description never
/// changes and they are standard beans, whose class is all that describes them: asking each of a thousand would hold
/// the first page up. All of them are asked later, since two class loaders may each have a class of this name.
const MANY_OF_A_CLASS: usize = 16;
/// From this many beans on, a JVM that was not asked before is read over two connections at a time: it has compiled
/// nothing of it yet, so that its processors are what takes the time.
const MANY_COLD: usize = 256;
/// How long a bean whose getter hangs is left alone.
const SUSPENSION: Duration = Duration::from_secs(300);
/// Beans that are looked at, and samples that are made, per scrape.
const MAX_BEANS: usize = 200_000;
const MAX_SAMPLES: usize = 1_000_000;
/// Least time that a reply is given, however soon the scrape has to end.
const MIN_REPLY: Duration = Duration::from_millis(500);

/// A target and its memory.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) settings: TargetSettings,
    session: Option<Session>,
    beans: HashMap<Arc<str>, Box<Bean>, foldhash::fast::RandomState>,
    /// Beans that are only taken to be like another one of their class, and what that one said, by class.
    assumed: Vec<Arc<str>>,
    shared: HashMap<Arc<str>, Arc<MBeanInfo>>,
    /// Texts and labels that beans have in common.
    pool: Pool,
    /// Phases of the last scrape, for the status page.
    pub(super) last: Report,
    logged: Option<String>,
    /// Knows which attributes no rule can match; made with the first description.
    pruner: Option<Option<Pruner>>,
    learnt: Option<Learnt>,
    /// For the status page, which must not wait for a scrape.
    pub(super) look: Arc<Look>,
    phases: Scrape,
    /// What became of each leaf, while somebody wants to know.
    pub(super) trace: Option<Vec<Explained>>,
}

/// What one scrape came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) labels: Vec<(String, String)>,
    pub(super) error: Option<String>,
    pub(super) duration: Duration,
    pub(super) beans: usize,
}

impl Report {
    /// Completes the span of this scrape.
    pub(super) fn trace(&self, span: &mut Span) {
        span.set("beans", self.beans);
        if span.is_recorded() && !self.labels.is_empty() {
            let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            span.set("target", labels.join(","));
        }
        self.error.iter().for_each(|error| span.fail(error));
    }
}

/// What is known about one bean.
#[derive(Debug)]
pub(super) struct Bean {
    pub(super) name: ObjectName,
    class: Arc<str>,
    pub(super) attributes: Box<[Attribute]>,
    immutable: bool,
    /// It has not described itself yet: it counts as one that is like another of its class.
    assumed: bool,
    described: Instant,
    suspended_until: Option<Instant>,
    /// Attributes whose values cannot be exported or read; kept while the bean is registered.
    pub(super) excluded: HashSet<String>,
}

#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: Arc<str>,
    pub(super) description: Arc<str>,
    pub(super) known: Known,
}

impl Target {
    pub(super) fn new(settings: TargetSettings) -> Self {
        Self {
            settings,
            session: None,
            beans: HashMap::default(),
            assumed: Vec::new(),
            shared: HashMap::new(),
            pool: Pool::default(),
            last: Report::default(),
            logged: None,
            pruner: None,
            learnt: None,
            look: Arc::default(),
            phases: Scrape::default(),
            trace: None,
        }
    }

    /// The last scrape, for the page.
    pub(super) fn report(&self) -> Report {
        self.last.clone()
    }

    /// Adds the samples of all beans to `page`. An error is logged and reported; what was read before it
    /// stays on the page. At `end` the scrape is cut off, which is such an error; until `deadline` it should be done.
    pub(super) async fn scrape(
        &mut self,
        collection: &Collection,
        deadline: Option<Instant>,
        end: Option<Instant>,
        page: &mut Page,
    ) {
        let start = Instant::now();
        let before = page.len();
        self.phases = Scrape::default();
        let work = self.read(collection, deadline, page);
        let result = match end {
            None => Some(work.await),
            Some(end) => tokio::time::timeout_at(end.into(), work).await.ok(),
        };
        let error = match result {
            Some(Ok(problem)) => problem,
            Some(Err(error)) => Some(common::error::chain(&error)),
            None => {
                let (name, after) = (&self.settings.name, start.elapsed().as_secs_f64());
                Some(format!("{name}: given up after {after:.1} s, because the scrape has to end"))
            }
        };
        self.note(start, page.len() - before, error);
    }

    fn note(&mut self, start: Instant, samples: usize, error: Option<String>) {
        // How long it took differs from time to time.
        let kind = |error: &Option<String>| {
            error.as_ref().map(|error| error.replace(|c: char| c.is_ascii_digit(), ""))
        };
        if kind(&error) != kind(&self.logged) {
            match &error {
                Some(error) => tracing::warn!(target_jvm = self.settings.name, error, "JMX scrape failed"),
                None => tracing::info!(target_jvm = self.settings.name, "JMX scrape works again"),
            }
        }
        self.logged.clone_from(&error);
        self.look.scraped(Scrape {
            total: start.elapsed(),
            beans: self.beans.len(),
            samples,
            error: error.clone(),
            ..std::mem::take(&mut self.phases)
        });
        self.last = Report {
            labels: self.settings.labels.clone(),
            error,
            duration: start.elapsed(),
            beans: self.beans.len(),
        };
    }

    /// Ends the session.
    pub(super) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    async fn read(
        &mut self,
        collection: &Collection,
        deadline: Option<Instant>,
        page: &mut Page,
    ) -> Result<Option<String>, Error> {
        // Taken out, so that a scrape that is dropped half-way leaves no half-read connection behind.
        let reply = self.reply_timeout(deadline);
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let start = Instant::now();
                let opened = Session::open(&self.settings, reply).await;
                self.phases.connect = start.elapsed();
                opened?
            }
        };
        session.set_reply_timeout(reply);
        // On the heap, for it is large and there are several ways to it.
        let work: Work<'_, Option<String>> = Box::pin(self.read_with(&mut session, collection, page));
        let result = work.await;
        // After an error most sessions connect again by themselves.
        if result.is_ok() || session.outlives_errors() {
            self.session = Some(session);
        }
        result
    }

    /// A getter that hangs must be noticed while there is still time to answer with the rest of the page.
    fn reply_timeout(&self, deadline: Option<Instant>) -> Duration {
        let configured = self.settings.options.timeouts.reply;
        match deadline {
            None => configured,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                configured.min(left.mul_f64(0.4)).max(MIN_REPLY)
            }
        }
    }

    async fn read_with(
        &mut self,
        session: &mut Session,
        collection: &Collection,
        page: &mut Page,
    ) -> Result<Option<String>, Error> {
        let start = Instant::now();
        let instances = session.query(patterns(collection)).await?;
        self.phases.names = start.elapsed();
        let mut problem = None;
        if instances.len() > MAX_BEANS {
            let found = instances.len();
            problem =
                Some(format!("{}: {found} beans, more than the limit of {MAX_BEANS}", self.settings.name));
        }
        if collection.jvm_metrics {
            jvm::add(session, &self.settings.labels, page).await?;
        }
        let start = Instant::now();
        let is_cold = self.beans.is_empty() && instances.len() >= MANY_COLD;
        let names = self.describe(session, collection, instances).await?;
        let mut helper = if is_cold { session.sibling() } else { None };
        self.phases.describe = start.elapsed();
        let mut doubtful = Vec::new();
        let read = self.values(session, &mut helper, collection, &names, page, &mut doubtful).await?;
        problem = problem.or(read);
        if !doubtful.is_empty() && page.len() <= MAX_SAMPLES {
            self.settle(session, collection, &doubtful).await?;
            let read =
                self.values(session, &mut helper, collection, &doubtful, page, &mut Vec::new()).await?;
            problem = problem.or(read);
        }
        if page.len() > MAX_SAMPLES {
            problem = Some(format!("{}: more than {MAX_SAMPLES} samples", self.settings.name));
        }
        Ok(problem)
    }

    /// Brings the descriptions up to date. Returns the names of the beans to read, in a stable order.
    async fn describe(
        &mut self,
        session: &mut Session,
        collection: &Collection,
        instances: Vec<ObjectInstance>,
    ) -> Result<Vec<Arc<str>>, Error> {
        let now = Instant::now();
        let mut names = Vec::with_capacity(instances.len().min(MAX_BEANS));
        let mut unknown = Vec::new();
        for ObjectInstance { name, class } in instances.into_iter().take(MAX_BEANS) {
            let current = self.beans.get(&*name).is_some_and(|bean| {
                bean.class == class
                    && (bean.immutable || now.duration_since(bean.described) < collection.bean_info_age)
            });
            if !current {
                let Ok(parsed) = ObjectName::try_from(Arc::clone(&name)) else { continue };
                if !collection.filter.wants(&parsed) {
                    continue;
                }
                unknown.push((parsed, class));
            }
            names.push(name);
        }
        let all_known = unknown.is_empty();
        self.ask(session, collection, unknown, now).await?;
        if self.beans.len() > names.len() {
            let present: HashSet<&str> = names.iter().map(|name| &**name).collect();
            self.beans.retain(|name, _| present.contains(&**name));
            self.look.only(&present);
            self.pool.tidy();
        }
        if !all_known {
            names.retain(|name| self.beans.contains_key(&**name));
        }
        Ok(names)
    }

    /// Lets beans describe themselves; of many beans of one class, one speaks for all.
    async fn ask(
        &mut self,
        session: &mut Session,
        collection: &Collection,
        beans: Vec<(ObjectName, Arc<str>)>,
        now: Instant,
    ) -> Result<(), Error> {
        let mut of_class: HashMap<Arc<str>, usize> = HashMap::new();
        // An explanation is for people who want to know, and have time.
        if self.trace.is_none() {
            beans.iter().for_each(|(_, class)| *of_class.entry(Arc::clone(class)).or_default() += 1);
        }
        of_class.retain(|_, count| *count >= MANY_OF_A_CLASS);
        let dynamic = match of_class.is_empty() {
            true => None,
            false => session.dynamic_beans(patterns(collection)).await?,
        };
        let is_standard =
            |name: &ObjectName| dynamic.as_ref().is_some_and(|dynamic| !dynamic.contains(name.as_str()));
        let mut spoken_for = HashSet::new();
        let (mut speakers, mut alike, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (name, class) in beans {
            let of = match is_standard(&name) && of_class.contains_key(&class) {
                false => &mut others,
                true if spoken_for.insert(Arc::clone(&class)) => &mut speakers,
                true => &mut alike,
            };
            of.push((name, class));
        }
        self.ask_each(session, collection, speakers, true, now).await?;
        // What one bean says must not become more than the JVM could have said for each of them.
        let mut room = MAX_SAMPLES;
        for (name, class) in alike {
            let info = self.shared.get(&class).filter(|info| info.attributes.len() <= room);
            let Some(info) = info.cloned() else {
                others.push((name, class));
                continue;
            };
            room -= info.attributes.len();
            let key = Arc::clone(name.shared());
            self.remember(collection, name, class, Some(&info), now);
            self.beans.get_mut(&*key).into_iter().for_each(|bean| bean.assumed = true);
            self.assumed.push(key);
        }
        self.ask_each(session, collection, others, false, now).await
    }

    async fn ask_each(
        &mut self,
        session: &mut Session,
        collection: &Collection,
        beans: Vec<(ObjectName, Arc<str>)>,
        for_others: bool,
        now: Instant,
    ) -> Result<(), Error> {
        let mut beans = beans.into_iter();
        loop {
            let batch: Vec<(ObjectName, Arc<str>)> = beans.by_ref().take(DESCRIPTIONS_PER_CALL).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = batch.iter().map(|(name, _)| name.as_str()).collect();
            let infos = session.mbean_infos(&names).await?;
            for ((name, class), info) in batch.into_iter().zip(infos) {
                if let Some(info) = info.as_ref().filter(|info| for_others && info.immutable) {
                    self.shared.insert(Arc::clone(&class), Arc::new(info.clone()));
                }
                self.remember(collection, name, class, info.as_ref(), now);
            }
        }
    }

    /// Lets some of the beans that were taken to be like others describe themselves after all. Returns whether there
    /// are more of them.
    pub(super) async fn verify(&mut self, collection: &Collection) -> Result<bool, Error> {
        let Some(mut session) = self.session.take() else { return Ok(false) };
        let from = self.assumed.len().saturating_sub(DESCRIPTIONS_PER_CALL);
        let names = self.assumed.split_off(from);
        let result = self.settle(&mut session, collection, &names).await;
        if result.is_ok() || session.outlives_errors() {
            self.session = Some(session);
        }
        if result.is_err() {
            self.assumed.extend(names);
        }
        result.map(|()| !self.assumed.is_empty())
    }

    /// Whether there are beans that were only taken to be like others.
    pub(super) fn assumes(&self) -> bool {
        !self.assumed.is_empty()
    }

    /// Lets those of these beans describe themselves that have not yet.
    async fn settle(
        &mut self,
        session: &mut Session,
        collection: &Collection,
        names: &[Arc<str>],
    ) -> Result<(), Error> {
        let now = Instant::now();
        let is_assumed = |name: &&Arc<str>| self.beans.get(&**name).is_some_and(|bean| bean.assumed);
        let names: Vec<&Arc<str>> = names.iter().filter(is_assumed).collect();
        for names in names.chunks(DESCRIPTIONS_PER_CALL) {
            let infos = session.mbean_infos(&names.iter().map(|name| &***name).collect::<Vec<_>>()).await?;
            for (name, info) in names.iter().zip(infos) {
                let Some(bean) = self.beans.get_mut(&***name) else { continue };
                bean.assumed = false;
                if info.is_some() && info.as_ref() == self.shared.get(&bean.class).map(|shared| &**shared) {
                    continue;
                }
                if let Ok(parsed) = ObjectName::try_from(Arc::clone(name)) {
                    let class = Arc::clone(&bean.class);
                    self.remember(collection, parsed, class, info.as_ref(), now);
                }
            }
        }
        if self.assumed.is_empty() {
            self.shared.clear();
        }
        Ok(())
    }

    fn remember(
        &mut self,
        collection: &Collection,
        name: ObjectName,
        class: Arc<str>,
        info: Option<&MBeanInfo>,
        now: Instant,
    ) {
        let Some(info) = info else {
            self.beans.remove(name.as_str());
            return;
        };
        let texts =
            self.trace.is_some() || collection.rules.uses_texts() || !collection.customizers.is_empty();
        // Labels may come from any attribute, and an explanation wants to see all of them.
        let prunable = self.trace.is_none() && collection.customizers.is_empty();
        let pruner = self.pruner.get_or_insert_with(|| Pruner::new(&collection.rules));
        let serialized = matches!(self.settings.transport, Transport::Rmi | Transport::Attach(_));
        let (look, pool) = (&self.look, &mut self.pool);
        let wanted = info.attributes.iter().filter(|attribute| {
            let wanted = attribute.readable
                && collection.filter.wants_attribute(&name, &attribute.name)
                && may_export(&attribute.class, texts)
                && !(serialized && breaks_replies(&attribute.class));
            let pruned = wanted
                && prunable
                && is_plain(&attribute.class)
                && !may_match(pruner, &name, &attribute.name, look);
            wanted && !pruned
        });
        let attributes = wanted.map(|AttributeInfo { name, description, .. }| Attribute {
            name: pool.text(name),
            description: pool.text(description),
            known: Known::default(),
        });
        let attributes = attributes.collect();
        let known = self.beans.remove(name.as_str()).filter(|bean| bean.class == class);
        let key = Arc::clone(name.shared());
        let bean = Bean {
            name,
            class,
            attributes,
            immutable: info.immutable,
            assumed: false,
            described: now,
            suspended_until: known.as_ref().and_then(|bean| bean.suspended_until),
            excluded: known.map(|bean| bean.excluded).unwrap_or_default(),
        };
        self.beans.insert(key, Box::new(bean));
    }

    /// Reads some beans. Returns what went wrong with a bean, if anything did. Beans that seem to be unlike those
    /// that spoke for them end up in `doubtful`, and have to be read again. Ends early when there are too many samples.
    async fn values(
        &mut self,
        session: &mut Session,
        helper: &mut Option<Session>,
        collection: &Collection,
        names: &[Arc<str>],
        page: &mut Page,
        doubtful: &mut Vec<Arc<str>>,
    ) -> Result<Option<String>, Error> {
        let (start, before) = (Instant::now(), self.phases.values);
        let mut problem = None;
        let mut read = (Questions::default(), Vec::new());
        for names in names.chunks(BEANS_PER_CALL) {
            let questions = self.questions(names, &mut problem);
            // The JVM works on these while those before become samples.
            let export = async { self.export(collection, std::mem::take(&mut read), page, doubtful) };
            let (answers, new) = tokio::join!(biased; questions.ask(session, helper), export);
            self.phases.values = before + start.elapsed();
            problem = problem.or(new);
            read = (questions, answers?);
            if page.len() > MAX_SAMPLES {
                return Ok(problem);
            }
        }
        let new = self.export(collection, read, page, doubtful);
        self.phases.values = before + start.elapsed();
        Ok(problem.or(new))
    }

    /// What there is to ask these beans.
    fn questions(&self, names: &[Arc<str>], problem: &mut Option<String>) -> Questions {
        let now = Instant::now();
        let mut questions = Questions::default();
        for name in names {
            let Some(bean) = self.beans.get(&**name) else { continue };
            if bean.suspended_until.is_some_and(|until| until > now) {
                let target = &self.settings.name;
                problem.get_or_insert(format!("{target}: {name} is left out, because a getter of it hangs"));
                continue;
            }
            let before = questions.attributes.len();
            let wanted = bean.attributes.iter().filter(|attribute| !bean.excluded.contains(&*attribute.name));
            questions.attributes.extend(wanted.map(|attribute| Arc::clone(&attribute.name)));
            if questions.attributes.len() > before {
                questions.beans.push((Arc::clone(name), questions.attributes.len() - before));
            }
        }
        questions
    }

    /// Makes samples of answers. Returns what went wrong with a bean, and adds beans to `doubtful`, as
    /// [`Target::values`] does.
    fn export(
        &mut self,
        collection: &Collection,
        (questions, answers): (Questions, Vec<BeanAnswer>),
        page: &mut Page,
        doubtful: &mut Vec<Arc<str>>,
    ) -> Option<String> {
        let mut problem = None;
        for ((name, asked), answer) in questions.beans.iter().zip(answers) {
            let Some(bean) = self.beans.get_mut(&**name) else { continue };
            match answer {
                // A getter that throws, or a bean that is not like the others after all.
                BeanAnswer::Values(result)
                    if bean.assumed && result.values.len() + result.unreadable.len() < *asked =>
                {
                    doubtful.push(Arc::clone(name));
                }
                BeanAnswer::Values(result) => {
                    for attribute in result.unreadable {
                        tracing::info!(bean = &**name, attribute, "left out: the JVM cannot serialize it");
                        bean.excluded.insert(attribute);
                    }
                    let labels = &self.settings.labels;
                    let learnt = self.learnt.get_or_insert_with(|| collection.rules.learnt());
                    let trace = self.trace.as_mut();
                    let look = &*self.look;
                    let pool = &mut self.pool;
                    let mut exporter =
                        Exporter { collection, target_labels: labels, page, learnt, look, trace, pool };
                    let new = exporter.bean(bean, &result.values);
                    problem = problem.or(new.map(|new| format!("{}: {new}", self.settings.name)));
                }
                // It has gone between the question and the answer.
                BeanAnswer::Threw(_) => {}
                BeanAnswer::TimedOut => {
                    bean.suspended_until = Some(Instant::now() + SUSPENSION);
                    let target = &self.settings.name;
                    problem =
                        Some(format!("{target}: reading {name} timed out; left out for {SUSPENSION:?}"));
                }
            }
        }
        problem
    }
}

/// Beans to read, and what to ask them for. No bean is held on to, for others change meanwhile.
#[derive(Default)]
struct Questions {
    /// Names, and how many of the attributes are theirs.
    beans: Vec<(Arc<str>, usize)>,
    attributes: Vec<Arc<str>>,
}

impl Questions {
    /// The answers, of which the helper reads a half; one that fails is dropped.
    async fn ask(
        &self,
        session: &mut Session,
        helper: &mut Option<Session>,
    ) -> Result<Vec<BeanAnswer>, Error> {
        let attributes: Vec<&str> = self.attributes.iter().map(|name| &**name).collect();
        let mut rest = &attributes[..];
        let mut requests = Vec::with_capacity(self.beans.len());
        for (bean, count) in &self.beans {
            let attributes = rest.split_off(..*count).unwrap_or_default();
            requests.push(AttributeRequest { bean, attributes });
        }
        let Some(mut second) = helper.take() else { return session.attributes(&requests).await };
        let (own, others) = requests.split_at(requests.len() / 2);
        let (answers, of_others) = tokio::join!(session.attributes(own), second.attributes(others));
        let mut answers = answers?;
        match of_others {
            Ok(more) => {
                answers.extend(more);
                *helper = Some(second);
            }
            Err(_) => answers.extend(session.attributes(others).await?),
        }
        Ok(answers)
    }
}

/// A step of a scrape.
type Work<'w, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'w>>;

/// What the beans that are wanted have to match, if not everything is.
fn patterns(collection: &Collection) -> Option<&[ObjectName]> {
    let filter = &collection.filter;
    filter.explicit.then_some(filter.includes.as_slice())
}

/// Whether every value of this declared type is a number, a boolean or null.
fn is_plain(class: &str) -> bool {
    let boxed = class.strip_prefix("java.lang.");
    matches!(class, "byte" | "short" | "int" | "long" | "float" | "double" | "boolean")
        || boxed.is_some_and(|class| {
            matches!(class, "Byte" | "Short" | "Integer" | "Long" | "Float" | "Double" | "Boolean")
        })
}

fn may_match(pruner: &mut Option<Pruner>, bean: &ObjectName, attribute: &str, look: &Look) -> bool {
    let Some(pruner) = pruner else { return true };
    let leaf = Leaf {
        domain: bean.domain(),
        properties: bean.properties(),
        path: &[],
        name: attribute,
        description: "",
        value: LeafValue::Boolean(false),
    };
    let mut input = String::with_capacity(128);
    write_input(&mut input, &leaf, false);
    input.push_str(": ");
    let may = pruner.may_match(&input);
    if !may {
        look.uncovered(&leaf);
    }
    may
}

/// Whether a value of this declared type can become a sample. Only types that rule it out for every value
/// count: a declared interface or `Object` says nothing.
fn may_export(class: &str, texts: bool) -> bool {
    match class {
        "java.lang.String" => texts,
        "char" | "java.lang.Character" | "void" | "javax.management.ObjectName" => false,
        _ => !class.starts_with('['),
    }
}

/// Whether Java cannot serialize any value of this declared type: a reply with one ends the connection.
fn breaks_replies(class: &str) -> bool {
    let optional = class.strip_prefix("java.util.Optional");
    optional.is_some_and(|of| matches!(of, "" | "Int" | "Long" | "Double"))
}

/// Shared handle, because scrapes of one target exclude each other.
pub(super) type SharedTarget = Arc<tokio::sync::Mutex<Target>>;
