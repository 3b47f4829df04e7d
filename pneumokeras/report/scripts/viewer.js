// One radiograph, large, under its heatmap, whose strength can be set.

const VIEWED_SIDE = 448;

/** A viewer in the page's dialog; `show(order, position)` opens it at one of several radiographs. */
function makeViewer(data, describe) {
  const dialog = document.getElementById("viewer");
  const part = (name) => dialog.querySelector(`[data-part=${name}]`);
  const picture = part("picture");
  const canvas = part("heatmap");
  const strength = part("strength");
  let order = [];
  let position = 0;

  function fill() {
    const radiograph = order[position];
    const { name, sentence } = describe(radiograph);
    part("name").textContent = name;
    part("sentence").textContent = sentence;
    part("count").textContent = `${position + 1} of ${order.length}`;
    picture.alt = `Chest radiograph ${name}`;
    picture.src = data.pictures.images[radiograph];
    picture.onload = () => drawHeatmap(canvas, picture, data.pictures.heatmaps[radiograph], data.colors);
  }

  function step(by) {
    position = (position + by + order.length) % order.length;
    fill();
  }

  function setStrength() {
    canvas.style.opacity = strength.value / 100;
  }

  part("back").addEventListener("click", () => step(-1));
  part("on").addEventListener("click", () => step(1));
  part("close").addEventListener("click", () => dialog.close());
  strength.addEventListener("input", setStrength);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target === strength) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  setStrength();

  return function show(radiographs, at) {
    order = radiographs;
    position = at;
    fill();
    dialog.showModal();
  };
}

/** Draw a small gray heatmap over a whole picture: smooth, colored, and more transparent where it is lower. */
function drawHeatmap(canvas, picture, source, colors) {
  const heatmap = new Image();
  heatmap.onload = () => {
    const scale = VIEWED_SIDE / Math.max(picture.naturalWidth, picture.naturalHeight);
    canvas.width = Math.round(picture.naturalWidth * scale);
    canvas.height = Math.round(picture.naturalHeight * scale);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(heatmap, 0, 0, canvas.width, canvas.height);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    colorPixels(pixels.data, colors);
    context.putImageData(pixels, 0, 0);
  };
  heatmap.src = source;
}

/** Turn gray levels into colors in place, as opaque as they are bright. */
function colorPixels(bytes, colors) {
  for (let i = 0; i < bytes.length; i += 4) {
    const level = bytes[i] / 255;
    const place = level * (colors.length - 1);
    const below = Math.min(Math.floor(place), colors.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [low, high] = [colors[below][channel], colors[below + 1][channel]];
      bytes[i + channel] = low + (place - below) * (high - low);
    }
    bytes[i + 3] = 255 * level;
  }
}
