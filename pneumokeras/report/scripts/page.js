// The page: its data are read once, then one threshold moves everything.

function readData() {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  data.labels = Uint8Array.from(data.labels, Number);
  data.probabilities = Float64Array.from(data.probabilities);
  data.patients = Int32Array.from(data.patients);
  data.patientCount = data.patients.reduce((most, patient) => Math.max(most, patient), -1) + 1;
  return data;
}

function threeDigits(value) {
  return Number.isNaN(value) ? "undefined" : value.toFixed(3);
}

function rangeOf({ estimate, low, high }) {
  if (Number.isNaN(estimate)) return "";
  return Number.isNaN(low) ? "no interval" : `${low.toFixed(3)} to ${high.toFixed(3)}`;
}

function shortThreshold(threshold) {
  return String(Number(threshold.toPrecision(4)));
}

function setText(selector, text) {
  for (const element of document.querySelectorAll(selector)) element.textContent = text;
}

function writeInterval(name, interval) {
  setText(`[data-score=${name}]`, threeDigits(interval.estimate));
  setText(`[data-range=${name}]`, rangeOf(interval));
}

function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** The mistakes at a threshold, in words. */
function sentenceAt(data, threshold, { tn, fp, fn, tp }) {
  const [negative, positive] = data.classes.map((name) => name.toLowerCase());
  return (
    `At ${shortThreshold(threshold)}: of ${counted(tp + fn, `${positive} radiograph`)} ${fn.toLocaleString("en")} missed; ` +
    `of ${counted(tn + fp, `${negative} radiograph`)} ${fp.toLocaleString("en")} flagged.`
  );
}

/** The expected results on a ward, in whole people (natural frequencies). */
function wardSentence(data, prevalence, examined, scores) {
  const positive = data.classes[1].toLowerCase();
  const { sensitivity, specificity } = scores;
  if (Number.isNaN(sensitivity.estimate) || Number.isNaN(specificity.estimate)) return "";
  const sick = Math.round(examined * prevalence);
  const well = examined - sick;
  const found = Math.round(sick * sensitivity.estimate);
  const alarms = Math.round(well * (1 - specificity.estimate));
  return (
    `Of ${examined.toLocaleString("en")} examined, ${sick.toLocaleString("en")} have ${positive}: ` +
    `${found.toLocaleString("en")} are flagged, ${(sick - found).toLocaleString("en")} missed. ` +
    `Of the ${well.toLocaleString("en")} others, ${alarms.toLocaleString("en")} are flagged: ` +
    `of ${(found + alarms).toLocaleString("en")} flagged, ${alarms.toLocaleString("en")} are false alarms.`
  );
}

function main() {
  const data = readData();
  const slider = document.getElementById("threshold-slider");
  const exact = document.getElementById("threshold-exact");
  const prevalence = document.getElementById("prevalence");
  const examined = document.getElementById("examined");
  let threshold = data.threshold;

  const describe = (i) => {
    const { right, words } = OUTCOMES[outcomeOf(data.labels[i], data.probabilities[i] >= threshold)];
    const truth = data.classes[data.labels[i]];
    return {
      name: data.names[i],
      sentence: `${right ? "✓" : "✗"} ${words}: true ${truth}, probability of ${data.classes[1]} ${data.probabilities[i].toFixed(4)}, threshold ${shortThreshold(threshold)}`,
    };
  };
  const updateTable = makeTable(data, document.getElementById("viewer") && makeViewer(data, describe));

  function updateWard(scores) {
    const share = Number(prevalence.value) / 100;
    const people = Number(examined.value);
    const valid = share > 0 && share < 1 && people >= 1;
    const values = valid ? predictiveValues(scores.sensitivity, scores.specificity, share) : { ppv: UNDEFINED, npv: UNDEFINED };
    writeInterval("ward-ppv", values.ppv);
    writeInterval("ward-npv", values.npv);
    setText("#ward-sentence", valid ? wardSentence(data, share, Math.round(people), scores) : "State a prevalence between 0 and 100%.");
  }

  function update() {
    const counts = confusionCounts(data, threshold);
    const scores = scoresAt(data, threshold);
    for (const [name, count] of Object.entries(counts)) setText(`[data-count=${name}]`, count.toLocaleString("en"));
    for (const [name, interval] of Object.entries(scores)) writeInterval(name, interval);
    setText("#threshold-sentence", sentenceAt(data, threshold, counts));
    setText("[data-threshold-now]", shortThreshold(threshold));
    for (const button of document.querySelectorAll("[data-threshold]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.threshold) === threshold));
    }
    moveMarks(data.charts, placesAt(threshold, counts, scores));
    updateWard(scores);
    updateTable(threshold);
  }

  function choose(value, from) {
    if (!(value >= 0 && value <= 1)) return;
    threshold = value;
    if (from !== slider) slider.value = value;
    if (from !== exact) exact.value = shortThreshold(value);
    update();
  }

  slider.addEventListener("input", () => choose(Number(slider.value), slider));
  exact.addEventListener("input", () => exact.value !== "" && choose(Number(exact.value), exact));
  for (const button of document.querySelectorAll("[data-threshold]")) {
    button.addEventListener("click", () => choose(Number(button.dataset.threshold)));
  }
  for (const box of [prevalence, examined]) box.addEventListener("input", () => updateWard(scoresAt(data, threshold)));
  for (const hidden of document.querySelectorAll(".needs-script")) hidden.hidden = false;
  choose(threshold);
}

main();
