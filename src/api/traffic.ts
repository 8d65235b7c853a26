// What clients publish on this node, counted: so a node that stops can tell when they have gone elsewhere.

export class Traffic {
  /** Streams of batches that are open. */
  streams = 0;
  /** Batches that were taken from all of them. */
  batches = 0;
}
