// Scores at a threshold. Each function does the same as its namesake in pneumokeras.evaluation, and is tested
// against it.
//
// A set holds `labels` (0 or 1), `probabilities` and `patients` (numbers below `patientCount`), one entry per
// radiograph, and `intervals`, the constants of the intervals. An interval is {estimate, low, high}; NaN is undefined.

const UNDEFINED = { estimate: NaN, low: NaN, high: NaN };

/** Counts of radiographs: one is flagged if and only if its probability reaches the threshold. */
function confusionCounts({ labels, probabilities }, threshold) {
  const counts = { tn: 0, fp: 0, fn: 0, tp: 0 };
  for (let i = 0; i < labels.length; i++) {
    counts[outcomeOf(labels[i], probabilities[i] >= threshold)]++;
  }
  return counts;
}

/** `tn`, `fp`, `fn` or `tp`. */
function outcomeOf(label, flagged) {
  if (flagged) return label ? "tp" : "fp";
  return label ? "fn" : "tn";
}

/** Sensitivity, specificity, precision and NPV with their 95% intervals, as report.json has them. */
function scoresAt(set, threshold) {
  const { labels, probabilities } = set;
  const flagged = (i) => probabilities[i] >= threshold;
  return {
    sensitivity: proportionInterval(set, (i) => labels[i] === 1, flagged),
    specificity: proportionInterval(set, (i) => labels[i] === 0, (i) => !flagged(i)),
    precision: proportionInterval(set, flagged, (i) => labels[i] === 1),
    npv: proportionInterval(set, (i) => !flagged(i), (i) => labels[i] === 0),
  };
}

/** Share of those `among` that are `counted`, with Wilson's interval at the effective sample size. */
function proportionInterval(set, among, counted) {
  const images = new Float64Array(set.patientCount);
  const successes = new Float64Array(set.patientCount);
  let n = 0;
  let total = 0;
  for (let i = 0; i < set.labels.length; i++) {
    if (!among(i)) continue;
    n++;
    images[set.patients[i]]++;
    if (!counted(i)) continue;
    total++;
    successes[set.patients[i]]++;
  }
  return n ? wilson(total, n, n / designEffect(images, successes, n, total, set.intervals.kishEvents), set.intervals.z) : UNDEFINED;
}

/** Factor by which patients with several radiographs inflate the variance of a proportion. */
function designEffect(images, successes, n, total, kishEvents) {
  const proportion = total / n;
  let squares = 0;
  let between = 0;
  let patients = 0;
  for (let patient = 0; patient < images.length; patient++) {
    if (!images[patient]) continue;
    patients++;
    squares += images[patient] ** 2;
    between += (successes[patient] - proportion * images[patient]) ** 2;
  }
  const kish = squares / n;
  if (total === 0 || total === n || patients === 1) return kish;
  const linearized = Math.max(1, between / (n * proportion * (1 - proportion)));
  const events = Math.min(total, n - total) / kish;
  return (events * linearized + kishEvents * kish) / (events + kishEvents);
}

function wilson(successes, n, size, z) {
  const share = successes / n;
  const center = (share + z ** 2 / (2 * size)) / (1 + z ** 2 / size);
  const half = (z * Math.sqrt((share * (1 - share)) / size + (z / (2 * size)) ** 2)) / (1 + z ** 2 / size);
  return { estimate: share, low: Math.max(0, center - half), high: Math.min(1, center + half) };
}

/** Predictive values at another prevalence: Bayes' theorem, the intervals of both likelihood ratios by MOVER-R. */
function predictiveValues(sensitivity, specificity, prevalence) {
  const odds = prevalence / (1 - prevalence);
  return {
    ppv: shareOfOdds(odds, ratio(sensitivity, complement(specificity))),
    npv: shareOfOdds(1 / odds, ratio(specificity, complement(sensitivity))),
  };
}

function complement({ estimate, low, high }) {
  return { estimate: 1 - estimate, low: 1 - high, high: 1 - low };
}

function ratio(over, under) {
  const estimate = under.estimate === 0 && over.estimate > 0 ? Infinity : over.estimate / under.estimate;
  if (Number.isNaN(estimate) || Number.isNaN(over.low) || Number.isNaN(under.low)) {
    return { estimate, low: NaN, high: NaN };
  }
  const product = over.estimate * under.estimate;
  const reach = (share, end) => end * (2 * share.estimate - end);
  let low = 0;
  let high = Infinity;
  let lower = reach(over, over.low);
  let upper = reach(under, under.high);
  if (lower > 0) low = lower / (product + Math.sqrt(product ** 2 - lower * upper));
  upper = reach(over, over.high);
  lower = reach(under, under.low);
  if (lower > 0) high = (product + Math.sqrt(product ** 2 - upper * lower)) / lower;
  return { estimate, low, high };
}

function shareOfOdds(odds, { estimate, low, high }) {
  const share = (value) => (value === Infinity ? 1 : (odds * value) / (1 + odds * value));
  return { estimate: share(estimate), low: share(low), high: share(high) };
}

/** True positives per radiograph, minus the false positives weighted by the odds of the threshold. */
function netBenefit({ tn, fp, fn, tp }, threshold) {
  return (tp - (fp * threshold) / (1 - threshold)) / (tn + fp + fn + tp);
}
