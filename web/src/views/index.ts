// Every view and its address.

import type { Component } from 'svelte';

import Events from './Events.svelte';
import Experiment from './Experiment.svelte';
import Experiments from './Experiments.svelte';
import Job from './Job.svelte';
import NewExperiment from './NewExperiment.svelte';
import Results from './Results.svelte';
import Workers from './Workers.svelte';

export const VIEWS: readonly (readonly [string, Component<{ id: number }>])[] = [
  ['/', Results],
  ['/experiments', Experiments],
  ['/experiments/new', NewExperiment],
  ['/experiments/:id', Experiment],
  ['/jobs/:id', Job],
  ['/workers', Workers],
  ['/events', Events],
];
