// Spark DStream: reduceByKeyAndWindow with the inverse function, batches run back to back on a manual clock.
// args: records per batch, batches, keys, checkpoint dir, threads.  One batch = one slide of 1 s; window 60 s (60 batches).
package org.apache.spark.streaming

import org.apache.spark.SparkConf
import org.apache.spark.rdd.RDD
import org.apache.spark.streaming.dstream.InputDStream
import org.apache.spark.streaming.scheduler._
import org.apache.spark.util.ManualClock
import java.util.concurrent.Semaphore
import scala.reflect.ClassTag

object DStreamBench {
  def main(args: Array[String]): Unit = {
    val per = args(0).toInt; val batches = args(1).toInt; val nkeys = args(2).toInt; val threads = args(4).toInt
    val conf = new SparkConf().setMaster("local[" + args(4) + "]").setAppName("dstream").set("spark.ui.enabled", "false")
      .set("spark.streaming.clock", "org.apache.spark.util.ManualClock").set("spark.driver.bindAddress", "127.0.0.1").set("spark.driver.host", "127.0.0.1")
      .set("spark.local.dir", args(3)).set("spark.serializer", "org.apache.spark.serializer.KryoSerializer")
    val ssc = new StreamingContext(conf, Seconds(1))
    ssc.sparkContext.setLogLevel("ERROR")
    ssc.checkpoint(args(3) + "/ck")
    // 16 different batches, generated before the clock starts, kept in memory; zipf(1.1) keys
    val cdf = { val w = (1 to nkeys).map(k => 1.0 / math.pow(k, 1.1)); val s = w.sum; w.scanLeft(0.0)(_ + _).tail.map(_ / s).toArray }
    val rdds = (0 until 16).map { b =>
      val r = ssc.sparkContext.parallelize(0 until threads, threads).flatMap { part =>
        val rnd = new java.util.Random(b * 31 + part)
        Array.fill(per / threads) { val u = rnd.nextDouble(); var i = java.util.Arrays.binarySearch(cdf, u); if (i < 0) i = -i - 1; (math.min(i, nkeys - 1).toLong, math.exp(3 + rnd.nextGaussian())) }
      }.cache()
      r.count(); r
    }
    val in = new InputDStream[(Long, Double)](ssc) {
      var i = 0
      override def start(): Unit = {}
      override def stop(): Unit = {}
      override def compute(t: Time): Option[RDD[(Long, Double)]] = { i += 1; Some(rdds(i % 16)) }
    }
    val done = new Semaphore(0)
    val procs = new scala.collection.mutable.ArrayBuffer[Long]()
    ssc.addStreamingListener(new StreamingListener {
      override def onBatchCompleted(e: StreamingListenerBatchCompleted): Unit = { procs.synchronized { procs += e.batchInfo.processingDelay.getOrElse(-1L) }; done.release() }
    })
    val rows = ssc.sparkContext.longAccumulator("rows"); val cnt = ssc.sparkContext.longAccumulator("cnt")
    in.map { case (k, v) => (k, (1L, v)) }
      .reduceByKeyAndWindow((a: (Long, Double), b: (Long, Double)) => (a._1 + b._1, a._2 + b._2), (a: (Long, Double), b: (Long, Double)) => (a._1 - b._1, a._2 - b._2),
        Seconds(60), Seconds(1), threads, (kv: (Long, (Long, Double))) => kv._2._1 > 0)
      .mapValues { case (c, s) => (c, s, s / c) }
      .foreachRDD { r => r.foreachPartition { it => var n = 0L; var c = 0L; it.foreach { x => n += 1; c += x._2._1 }; rows.add(n); cnt.add(c) } }
    ssc.start()
    val clock = ssc.scheduler.clock.asInstanceOf[ManualClock]
    var t0 = 0L; val warm = 70
    for (b <- 1 to (warm + batches)) {
      if (b == warm + 1) t0 = System.nanoTime()
      clock.advance(1000); done.acquire()
    }
    val s = (System.nanoTime() - t0) / 1e9
    val p = procs.drop(warm).sorted
    println(f"""RESULT {"query_s": $s%.3f, "records": ${per.toLong * batches}, "batches": $batches, "per_batch": $per, "records_per_s": ${per.toLong * batches / s}%.0f, "batch_ms_median": ${p(p.length / 2)}, "batch_ms_p99": ${p((p.length * 0.99).toInt)}, "rows": ${rows.value}, "cnt": ${cnt.value}}""")
    ssc.stop(true, false)
  }
}
