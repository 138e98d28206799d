// Where pictures come from: chosen, pasted, dropped, or from the camera.

import { at, element } from "./words.js";

// What a folder holds is sent by suffix, as the command line does; a file that is named by itself is sent as it is.
const PICTURE = /\.(avif|bmp|dib|gif|heic|heif|jfif|jpe|jpeg|jpg|mpo|pgm|png|pnm|ppm|tif|tiff|webp)$/i;

/** Hand files to `add`, and say with `notice` why there are none; the camera shows what `add` is told of each. */
export function takePictures(add, notice) {
  fromDisk(add);
  fromFolder(add, notice);
  fromClipboard(add, notice);
  fromDrop(add, notice);
  fromCamera(add, notice);
}

function fromDisk(add) {
  at("files").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

function fromFolder(add, notice) {
  if (!("webkitdirectory" in at("folder"))) return;
  at("folder").hidden = at("folder").nextElementSibling.hidden = false;
  at("folder").addEventListener("change", (event) => {
    addSorted(event.target.files, add, notice);
    event.target.value = "";
  });
}

/** Add the pictures among the files of folders, and say how many files were none. */
function addSorted(files, add, notice) {
  const seen = [...files].filter((file) => !path(file).split("/").some(isHidden));
  const pictures = seen.filter((file) => PICTURE.test(file.name)).sort((a, b) => order.compare(path(a), path(b)));
  add(pictures);
  const others = seen.length - pictures.length;
  if (!pictures.length) notice("There are no pictures in that folder.");
  else if (others) notice(`${others} ${others === 1 ? "file is no picture and was" : "files are no pictures and were"} left out.`);
}

const order = new Intl.Collator("en", { numeric: true });
const path = (file) => file.webkitRelativePath || file.name;
// The system's own: beside pictures on a Mac lie files whose names begin with "._" and end in .jpg.
const isHidden = (name) => name.startsWith(".");

function fromClipboard(add, notice) {
  document.addEventListener("paste", (event) => {
    if (event.target.matches?.("input, textarea")) return;
    const files = event.clipboardData?.files ?? [];
    if (files.length) add(files);
    else notice("There is no picture in the clipboard. Copy a picture, or a picture file, and paste again.");
  });
}

function fromDrop(add, notice) {
  let inside = 0; // enter and leave come from every element that the pointer passes
  for (const [kind, change] of [["dragenter", 1], ["dragover", 0], ["dragleave", -1], ["drop", -Infinity]]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      inside = Math.max(0, inside + change);
      document.body.classList.toggle("over", inside > 0);
    });
  }
  document.addEventListener("drop", async (event) => {
    const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? (await Promise.all(entries.map(unfold))).flat() : [...event.dataTransfer.files];
    if (entries.some((one) => one.isDirectory)) addSorted(files, add, notice);
    else if (files.length) add(files);
    else notice("That was no picture file. Save the picture first, then drop the file here.");
  });
}

/** The files of a dropped file or folder, the folders in it included. */
async function unfold(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([file]), () => resolve([])));
  const [reader, found] = [entry.createReader(), []];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return (await Promise.all(found.map(unfold))).flat();
    found.push(...some.filter((one) => !isHidden(one.name)));
  }
}

const NO_CAMERA = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be used: another program may have it.",
};

function fromCamera(add, notice) {
  const dialog = at("shoot");
  const video = dialog.querySelector("video");
  const told = dialog.querySelector("[role=status]");
  let shots = 0;

  at("camera").hidden = !navigator.mediaDevices?.getUserMedia; // a browser gives it to localhost and https only
  at("camera").addEventListener("click", async () => {
    notice("");
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return notice(NO_CAMERA[error.name] ?? `The camera cannot be used (${error.message}).`);
    }
    told.textContent = "";
    dialog.showModal();
    at("take").focus();
    video.play().catch(() => {}); // it was closed before it began
  });

  at("take").addEventListener("click", async () => {
    if (!video.videoWidth) return void (told.textContent = "The camera has not started yet.");
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    const name = `camera ${++shots}.jpg`;
    told.textContent = "Looking…";
    add([new File([blob], name, { type: "image/jpeg" })], (text) => (told.textContent = text));
  });

  at("enough").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
}
