// The marks that follow the threshold over the curves.

/** Where each followed chart's mark belongs, in the data's units; NaN where it is undefined. */
function placesAt(threshold, counts, scores) {
  return {
    scores: [threshold, 0],
    roc: [1 - scores.specificity.estimate, scores.sensitivity.estimate],
    "precision-recall": [scores.sensitivity.estimate, scores.precision.estimate],
    "net-benefit": [threshold, threshold < 1 ? netBenefit(counts, threshold) : NaN],
  };
}

/** Move every mark; one whose place is undefined or outside its chart is hidden. */
function moveMarks(axes, places) {
  for (const mark of document.querySelectorAll("[data-follows]")) {
    const { x, y } = axes[mark.dataset.follows];
    const [left, top] = places[mark.dataset.follows];
    const inside = left >= x[0] && left <= x[1];
    mark.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) continue;
    mark.setAttribute("transform", `translate(${alongAxis(x, left)} 0)`);
    const dot = mark.querySelector(".now-dot");
    if (!dot) continue;
    const within = top >= y[0] && top <= y[1];
    dot.setAttribute("visibility", within ? "inherit" : "hidden");
    if (within) dot.setAttribute("cy", alongAxis(y, top));
  }
}

/** Return the place of a value on an axis [low, high, start, end], between start and end. */
function alongAxis([low, high, start, end], value) {
  return (start + ((value - low) / (high - low)) * (end - start)).toFixed(1);
}
